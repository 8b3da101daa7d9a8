"""Adds altered copies of train rows; every copy names its original, and held-out rows get none."""

import pandas as pd

from stages.contract import manifest, parts, plugins, runner
from stages.contract.errors import ParamsError
from stages.contract.runner import Job
from stages.params.augment import Augment, Split
from stages.params.task import Modality

PREVIEWED = 3  # originals a stratum


def augment(job: Job, modality: Modality, split: Split, augment: Augment) -> str:
    """Write the manifest with its copies, the copies' files, and a preview.

    The preview shows originals beside their copies.
    """
    of_x = plugins.modality(modality.name)
    if faults := of_x.altering.faults(augment.transforms):
        raise ParamsError(f"params.yaml: tasks.{job.key}.augment.{'; '.join(faults)}")
    samples = manifest.read(job.take("validate", "manifest.parquet"))
    parting = parts.assign(samples, split)
    train = samples[parting.part == "train"]
    files, below = job.out / "files", f"augment/{job.key}/files"
    files.mkdir()
    copies = of_x.altering.alter(train, augment, modality, files, below)
    if not any(files.iterdir()):  # DVC warns of a folder without a file each time it looks at it
        (files / "none.txt").write_text("No copy of a row is a file.\n", "utf-8")

    manifest.write(pd.concat([samples, copies], ignore_index=True), job.hand_on("manifest.parquet"))
    first = copies.drop_duplicates("source_id")
    chosen = first.groupby("stratum", dropna=False).head(PREVIEWED)["source_id"]
    shown = copies[copies["source_id"].isin(chosen)].reset_index(drop=True)
    originals = samples.set_index("id").loc[shown["source_id"]].reset_index()
    preview = job.hand_on("preview")
    preview.mkdir()
    of_x.showing.preview(originals, shown, files, below, preview)
    altered = copies["source_id"].nunique()
    return f"{len(copies):,} altered copies of {altered:,} out of {len(train):,} train rows"


if __name__ == "__main__":
    runner.run(augment)
