"""Splits the manifest into train, validation and test by groups, proves that nothing leaks, and lists labels that may be wrong."""

from typing import Any

import pandas as pd

from stages.checks import label_issues as issues
from stages.contract import manifest, parts, receipts, runner
from stages.contract.manifest import PARTS
from stages.contract.runner import Job
from stages.params.augment import Split
from stages.params.evaluate import LabelIssues


def split(job: Job, split: Split, label_issues: LabelIssues) -> str:
    """Write a manifest a part, label_issues.json, and leakage.json: what was dropped or moved, by number and by name."""
    samples = manifest.read(job.take("augment", "manifest.parquet"))
    parting = parts.assign(samples, split)

    content = samples["content"]
    held_out = content.isin(content[parting.part.isin(["validation", "test"])])
    strayed = held_out & (
        parting.part == "train"
    )  # an altered copy that became equal to a held-out row
    part = parting.part.mask(strayed)

    listed, looked = issues.find(samples, part, samples["stratum"], label_issues)
    listed["dropped"] = label_issues.drop & (listed["part"] == "train")
    receipts.write_json(
        job.out / "label_issues.json", looked | {"issues": listed.to_dict("records")}
    )
    doubted = listed[listed["dropped"]]
    part = part.mask(samples["source_id"].isin(doubted["id"]))

    counts: dict[str, Any] = {}
    for name in PARTS:
        rows = samples[part == name]
        manifest.write(rows, job.hand_on(f"{name}.parquet"))
        counts[name] = {
            "rows": len(rows),
            "labels": rows["stratum"].value_counts().sort_index().to_dict(),
        }
    crossing = _crossing(
        pd.concat([manifest.read(job.out / f"{name}.parquet").assign(part=name) for name in PARTS])
    )
    dropped = samples[parting.repeats]
    receipts.write_json(job.out / "leakage.json", {
        "parts": counts,
        "crossing": crossing,
        "repeats_of_held_out_rows": {"rows": len(dropped), "origins": sorted(dropped["origin"])},
        "copies_equal_to_held_out_rows": {"rows": int(strayed.sum()), "ids": sorted(samples.loc[strayed, "id"])},
        "train_rows_whose_label_may_be_wrong": {"rows": len(doubted), "origins": sorted(doubted["origin"])},
        "groups_moved_to_fill_a_part": parting.filled.to_dict("records"),
    })  # fmt: skip
    sizes = ", ".join(f"{name} {counts[name]['rows']:,}" for name in PARTS)
    wrong = f"{len(listed):,} labels may be wrong" + (
        f", {len(doubted):,} rows of train dropped for it" if label_issues.drop else ""
    )
    if looked["judged"] and not looked["fit"]:
        wrong = f"no label is doubted, because the cheap model that would is right on {looked['accuracy']['train']:.0%} of train alone"
    return f"{sizes}; {len(dropped)} rows dropped because they repeat a held-out one; {wrong}"


def _crossing(written: pd.DataFrame) -> dict[str, int]:
    """Return how many groups and equal contents stand in two parts, and how many altered copies are held out: none, or it raises.

    It looks at the manifests as they were written; anything but none would be a mistake in contract/parts.py.
    """
    counted = {
        f"{key}s": int(written.drop_duplicates([key, "part"])[key].duplicated().sum())
        for key in ("group", "content")
    }
    counted["held_out_copies"] = int(
        ((written["id"] != written["source_id"]) & (written["part"] != "train")).sum()
    )
    if any(counted.values()):
        raise AssertionError(f"parts leak: {counted}")
    return counted


if __name__ == "__main__":
    runner.run(split)
