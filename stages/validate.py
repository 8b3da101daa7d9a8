"""Validates a data set: bad rows are set aside, and a bad set stops here with all that is wrong with it."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.checks import data_docs, duplicates, expectations, quarantine, spelling, trial
from stages.contract import draws, manifest, plugins, receipts, runner
from stages.contract.errors import DataError, ParamsError
from stages.contract.runner import Job
from stages.domain import profiles, survey
from stages.params.compute import Compute
from stages.params.data import Data
from stages.params.problems import Problem
from stages.params.task import Modality
from stages.params.validate import Validate


def validate(
    job: Job,
    modality: Modality,
    problem: Problem,
    base: str,
    data: Data,
    compute: Compute,
    validate: Validate,
) -> str:
    """Write the manifest of the good rows, the quarantine of the bad ones, what every expectation observed, and how far the domain is."""
    of_x, of_y = plugins.modality(modality.name), plugins.problem(problem.name)
    if faults := expectations.faults(validate):
        raise ParamsError(f"params.yaml: tasks.{job.key}.{'; '.join(faults)}")

    folder, _ = job.raw(data.source)
    rows = plugins.layout(data.layout.name).read(folder, data.layout, data.encoding, of_x)
    junk = rows["code"] == "junk"
    skipped, rows = rows.loc[junk, "origin"].tolist(), rows[~junk].reset_index(drop=True)
    rows = _set_aside(rows, of_y.read(rows["y"], problem).rename(columns={"y": "label"}))
    looked = of_x.reading.look(rows.loc[rows["code"].isna(), "x"], modality)
    rows = _set_aside(rows, looked[["code", "reason"]])
    good = rows[rows["code"].isna()].drop(columns="y").rename(columns={"label": "y"})
    conflict = duplicates.conflicting(good, looked.loc[good.index, "normal"]) & of_y.CONFLICTS
    rows.loc[conflict.index[conflict], ["code", "reason"]] = [
        "conflicting_labels",
        "the same content stands with another label",
    ]
    looked = looked.loc[good.index][~conflict].reset_index(drop=True)
    good = good[~conflict].reset_index(drop=True)

    bad = rows[rows["code"].notna()]
    quarantine.write(bad, job.out / "quarantine.csv")
    if good.empty:
        raise DataError(
            f"data/raw/{data.source}: not one good row is left; {_most_of(bad, len(rows), validate.max_bad_fraction)}"
        )

    good["id"] = duplicates.identify(looked["exact"], good["y"])
    samples = good.assign(
        source_id=good["id"],
        content=draws.digest(looked["normal"]),
        group=duplicates.group(good["id"], of_x.reading.alike(looked)),
    )
    samples = samples.assign(context=None, query=None)
    findings = duplicates.summarise(samples)
    noted = looked["note"].notna()
    notes = [
        f"{origin}: {note}"
        for origin, note in zip(
            samples.loc[noted, "origin"], looked.loc[noted, "note"], strict=True
        )
    ]
    receipts.write_json(job.out / "findings.json", findings | {"notes": notes, "skipped": skipped})
    values = of_y.values(samples["y"])
    label = of_y.borne(values)
    labels = sorted({*label.unique(), *(getattr(problem, "labels", None) or {}).values()})
    largest = findings["largest"]["rows"] if findings["largest"]["rows"] > 1 else 0
    shares = {"quarantined": len(bad) / len(rows), "largest_group": largest / len(samples)}
    surveyed = survey.survey(
        samples,
        label,
        looked,
        (of_x, of_y),
        job.raw(base)[0],
        (modality, compute),
        validate,
        labels,
    )
    profiles.write(surveyed.own, job.out / "profile.json")
    receipts.write_json(
        job.out / "domain.json", {"profile": validate.domain.profile, **surveyed.document()}
    )
    shares["unknown_tokens"] = surveyed.unknown_tokens()
    frames = expectations.tables(
        samples, values, label, looked.select_dtypes("number"), labels, shares, surveyed, validate
    )
    results = expectations.run(
        expectations.suites(validate, labels, of_x.reading.expectations(modality), surveyed), frames
    )
    verdicts = expectations.verdicts(results)
    receipts.write_json(job.out / "expectations.json", verdicts)
    data_docs.write(results, job.out / "data_docs")
    more = {
        "quarantined": _most_of(bad, len(rows), validate.max_bad_fraction),
        "largest_group": _largest(findings["largest"], len(samples), validate.max_group_fraction),
        "unknown_tokens": f"{base} does not know {shares['unknown_tokens']:.0%} of the tokens of these texts; take a base model of their language",
        "over_limit": surveyed.far(),
    }
    wrong = expectations.failures(verdicts, severe=True, more=more) + spelling.clashes(labels)
    if wrong:
        raise DataError(
            f"data/raw/{data.source}: {len(wrong)} thing(s) wrong: {'; '.join(wrong)}; mend the data or tasks.{job.key}.validate"
        )
    trial.require(Path("data/raw", base), of_x, of_y, modality)
    warned = [
        f"not met: {line}" for line in expectations.failures(verdicts, severe=False, more=more)
    ]

    manifest.write(samples, job.hand_on("manifest.parquet"))
    repeated = len(samples) - samples["group"].nunique()
    mixed = len(findings["near_duplicates_with_different_labels"])
    skips = f", {len(skipped):,} junk files skipped" if skipped else ""
    of_rows = f"{len(samples):,} rows{f' of {len(labels)} labels' if labels else ''}, {repeated:,} repeat another"
    of_rows += f" ({mixed} groups of several labels)" if mixed else ""
    of_rows += f", {len(notes):,} have a note" if notes else ""
    told = "".join(f"; {line}" for line in [*filter(None, [surveyed.reads()]), *warned])
    return f"{of_rows}{skips}, {len(bad):,} in quarantine, {len(verdicts) - len(warned)} expectations met{told}"


def _set_aside(rows: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Add what was found to rows (same index): new columns as they are, code and reason where there was none."""
    rows = rows.join(found.drop(columns=["code", "reason"]))
    rows[["code", "reason"]] = rows[["code", "reason"]].combine_first(found[["code", "reason"]])
    return rows


def _most_of(bad: pd.DataFrame, total: int, ceiling: float) -> str:
    """Say how many rows are bad, by code, and the first of them."""
    if bad.empty:
        return f"none of {total} rows is bad"
    codes = ", ".join(f"{n} {code}" for code, n in bad["code"].value_counts().items())
    first = bad.iloc[0]
    return f"{len(bad)} of {total} rows are bad ({codes}; first {first['origin']}: {first['reason']}), at most {ceiling:.1%} may be"


def _largest(largest: dict[str, Any], total: int, ceiling: float) -> str:
    return f"{largest['rows']} of {total} rows are alike (first {largest['origins'][0]}), at most {ceiling:.1%} may be"


if __name__ == "__main__":
    runner.run(validate)
