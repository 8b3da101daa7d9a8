"""Adds altered copies of train rows; every copy names its original, and held-out rows get none."""

import pandas as pd

from stages.contract import manifest, parts, plugins, receipts, runner
from stages.contract.params import Augment, Classification, Split, TextModality
from stages.contract.runner import Job

PREVIEWED = 20


def augment(job: Job, modality: TextModality, problem: Classification, split: Split, augment: Augment) -> str:
    """Write the manifest with its copies, and a preview of originals beside them."""
    samples = manifest.read(job.take("validate", "manifest.parquet"))
    parting = parts.assign(samples, plugins.problem(problem.name).strata(samples["y"]), split)
    train = samples[parting.part == "train"]
    copies = plugins.modality(modality.name).alter(train, augment, modality)

    manifest.write(pd.concat([samples, copies], ignore_index=True), job.hand_on("manifest.parquet"))
    shown = copies.head(PREVIEWED).merge(samples[["id", "x"]], left_on="source_id", right_on="id", suffixes=("", "_original"))
    pairs = [{"original": a, "altered": b, "y": y} for a, b, y in zip(shown["x_original"], shown["x"], shown["y"], strict=True)]
    receipts.write_json(job.out / "preview.json", pairs)
    return f"{len(copies):,} altered copies of {copies['source_id'].nunique():,} out of {len(train):,} train rows"


if __name__ == "__main__":
    runner.run(augment)
