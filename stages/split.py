"""Splits the manifest into train, validation and test by groups, and proves that nothing leaks.

It also lists labels that may be wrong.
"""

from typing import Any

import pandas as pd

from stages.checks import label_issues as issues
from stages.contract import manifest, parts, receipts, runner
from stages.contract.manifest import PARTS
from stages.contract.runner import Job
from stages.params.augment import Split
from stages.params.evaluate import LabelIssues


def split(job: Job, split: Split, label_issues: LabelIssues) -> str:
    """Write a manifest a part, label_issues.json, and leakage.json.

    leakage.json names the rows that were dropped or moved.
    """
    samples = manifest.read(job.take("augment", "manifest.parquet"))
    parting = parts.assign(samples, split)
    content = samples["content"]
    held_out = content.isin(content[parting.part.isin(["validation", "test"])])
    strayed = held_out & (parting.part == "train")  # a copy that became equal to a held-out row
    part = parting.part.mask(strayed)

    listed, looked = issues.find(samples, part, samples["stratum"], label_issues)
    listed["dropped"] = label_issues.drop & (listed["part"] == "train")
    document = looked | {"issues": listed.to_dict("records")}
    receipts.write_json(job.out / "label_issues.json", document)
    doubted = listed[listed["dropped"]]
    part = part.mask(samples["source_id"].isin(doubted["id"]))

    counts = _write(job, samples, part)
    dropped = samples[parting.repeats]
    leakage = {
        "parts": counts,
        "crossing": _crossing(job),
        "repeats_of_held_out_rows": _rows(dropped["origin"], "origins"),
        "copies_equal_to_held_out_rows": _rows(samples.loc[strayed, "id"], "ids"),
        "train_rows_whose_label_may_be_wrong": _rows(doubted["origin"], "origins"),
        "groups_moved_to_fill_a_part": parting.filled.to_dict("records"),
    }
    receipts.write_json(job.out / "leakage.json", leakage)
    sizes = ", ".join(f"{name} {counts[name]['rows']:,}" for name in PARTS)
    wrong = f"{len(listed):,} labels may be wrong"
    if label_issues.drop:
        wrong += f", {len(doubted):,} rows of train dropped for it"
    if looked["judged"] and not looked["fit"]:
        right = looked["accuracy"]["train"]
        wrong = (
            "no label is doubted, because the cheap model that would is right on "
            f"{right:.0%} of train alone"
        )
    return f"{sizes}; {len(dropped)} rows dropped because they repeat a held-out one; {wrong}"


def _write(job: Job, samples: pd.DataFrame, part: "pd.Series[str]") -> dict[str, Any]:
    """Write a manifest a part; return how many rows each has, in all and by stratum."""
    counts = dict[str, Any]()
    for name in PARTS:
        rows = samples[part == name]
        manifest.write(rows, job.hand_on(f"{name}.parquet"))
        strata = rows["stratum"].value_counts().sort_index().to_dict()
        counts[name] = {"rows": len(rows), "labels": strata}
    return counts


def _rows(names: "pd.Series[str]", called: str) -> dict[str, Any]:
    return {"rows": len(names), called: sorted(names)}


def _crossing(job: Job) -> dict[str, int]:
    """Return how many groups and equal contents cross parts, and how many copies are held out.

    Raises AssertionError unless there are none. It reads the manifests that were written: any
    leak would be a mistake in contract/parts.py.
    """
    written = pd.concat(
        [manifest.read(job.out / f"{name}.parquet").assign(part=name) for name in PARTS]
    )
    counted = {
        f"{key}s": int(written.drop_duplicates([key, "part"])[key].duplicated().sum())
        for key in ("group", "content")
    }
    copies = (written["id"] != written["source_id"]) & (written["part"] != "train")
    counted["held_out_copies"] = int(copies.sum())
    if any(counted.values()):
        raise AssertionError(f"parts leak: {counted}")
    return counted


if __name__ == "__main__":
    runner.run(split)
