"""Validates a data set: sets bad rows aside, and stops a bad set with all that is wrong with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.checks import data_docs, duplicates, expectations, quarantine, spelling, trial
from stages.contract import draws, manifest, plugins, receipts, runner
from stages.contract.errors import DataError, ParamsError
from stages.contract.modality import Modality as Modules
from stages.contract.problem import Problem as Rules
from stages.contract.runner import Job
from stages.domain import profiles, survey
from stages.domain.survey import Survey
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
    """Write the manifest of the good rows and the quarantine of the bad ones.

    Also what each expectation observed, and how far the data is from the base model's domain.
    """
    of_x, of_y = plugins.modality(modality.name), plugins.problem(problem.name)
    if faults := expectations.faults(validate):
        raise ParamsError(f"params.yaml: tasks.{job.key}.{'; '.join(faults)}")
    layout, (folder, _) = plugins.layout(data.layout.name), job.raw(data.source)
    rows = layout.read(folder, data.layout, data.encoding, of_x)
    sifted = _sift(rows, of_x, of_y, modality, problem)
    quarantine.write(sifted.bad, job.out / "quarantine.csv")
    _require_some(sifted, data, validate)
    samples = _identified(sifted, of_x)
    findings = duplicates.summarise(samples) | _notes(sifted, samples)
    label = of_y.borne(values := of_y.values(samples["y"]))
    labels = sorted({*label.unique(), *(getattr(problem, "labels", None) or {}).values()})
    of, settings, model = (of_x, of_y), (modality, compute), job.raw(base)[0]
    surveyed = survey.survey(samples, label, sifted.looked, of, model, settings, validate, labels)
    _write(job, findings, surveyed, validate.domain.profile)

    shares = _shares(sifted, samples, findings, surveyed)
    numbers = sifted.looked.select_dtypes("number")
    frames = expectations.tables(
        samples, values, label, numbers, labels, shares, surveyed, validate
    )
    own = of_x.reading.expectations(modality)
    verdicts = _expect(job, expectations.suites(validate, labels, own, surveyed), frames)
    more = _explained(sifted, samples, findings, shares, surveyed, validate, base)
    wrong = expectations.failures(verdicts, severe=True, more=more) + spelling.clashes(labels)
    _require_met(job, data, wrong)
    trial.require(Path("data/raw", base), of_x, of_y, modality)
    manifest.write(samples, job.hand_on("manifest.parquet"))
    warned = expectations.failures(verdicts, severe=False, more=more)
    met = f"{len(verdicts) - len(warned)} expectations met"
    notes = [*filter(None, [surveyed.reads()]), *(f"not met: {line}" for line in warned)]
    return "; ".join([f"{_summary(sifted, samples, findings, labels)}, {met}", *notes])


@dataclass(frozen=True)
class Sifted:
    """The rows of a data set: good ones, what was seen of them (same index), bad ones, junk.

    rows counts good and bad ones.
    """

    good: pd.DataFrame
    looked: pd.DataFrame
    bad: pd.DataFrame
    junk: list[str]
    rows: int


def _sift(
    rows: pd.DataFrame, of_x: Modules, of_y: Rules, modality: Modality, problem: Problem
) -> Sifted:
    """Part good rows from bad ones: y and x must be fit, and equal x must not have two y."""
    is_junk = rows["code"] == "junk"
    junk, rows = rows.loc[is_junk, "origin"].tolist(), rows[~is_junk].reset_index(drop=True)
    rows = _set_aside(rows, of_y.read(rows["y"], problem).rename(columns={"y": "label"}))
    looked = of_x.reading.look(rows.loc[rows["code"].isna(), "x"], modality)
    rows = _set_aside(rows, looked[["code", "reason"]])
    good = rows[rows["code"].isna()].drop(columns="y").rename(columns={"label": "y"})
    conflict = duplicates.conflicting(good, looked.loc[good.index, "normal"]) & of_y.CONFLICTS
    why = ["conflicting_labels", "the same content occurs with another label"]
    rows.loc[conflict.index[conflict], ["code", "reason"]] = why
    looked = looked.loc[good.index][~conflict].reset_index(drop=True)
    good = good[~conflict].reset_index(drop=True)
    return Sifted(good, looked, rows[rows["code"].notna()], junk, len(rows))


def _require_some(sifted: Sifted, data: Data, validate: Validate) -> None:
    if sifted.good.empty:
        bad = _most_of(sifted.bad, sifted.rows, validate.max_bad_fraction)
        raise DataError(f"data/raw/{data.source}: not one good row is left; {bad}")


def _require_met(job: Job, data: Data, wrong: list[str]) -> None:
    if wrong:
        raise DataError(
            f"data/raw/{data.source}: {len(wrong)} thing(s) wrong: {'; '.join(wrong)}; "
            f"mend the data or tasks.{job.key}.validate"
        )


def _set_aside(rows: pd.DataFrame, looked: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of looked (same index) to rows; code and reason only if there were none."""
    columns = ["code", "reason"]
    rows = rows.join(looked.drop(columns=columns))
    rows[columns] = rows[columns].combine_first(looked[columns])
    return rows


def _identified(sifted: Sifted, of_x: Modules) -> pd.DataFrame:
    """Return the good rows with the columns of the manifest."""
    good, looked = sifted.good, sifted.looked
    ids = duplicates.identify(looked["exact"], good["y"])
    return good.assign(
        id=ids,
        source_id=ids,
        content=draws.digest(looked["normal"]),
        group=duplicates.group(ids, of_x.reading.alike(looked)),
        context=None,
        query=None,
    )


def _notes(sifted: Sifted, samples: pd.DataFrame) -> dict[str, list[str]]:
    """Return what a person should know of single rows, and the junk that was skipped."""
    noted = sifted.looked["note"].notna()
    pairs = zip(samples.loc[noted, "origin"], sifted.looked.loc[noted, "note"], strict=True)
    return {"notes": [f"{origin}: {note}" for origin, note in pairs], "skipped": sifted.junk}


def _write(job: Job, findings: dict[str, Any], surveyed: Survey, profile: str) -> None:
    """Write findings.json, domain.json, and the profile of this data for later comparisons."""
    receipts.write_json(job.out / "findings.json", findings)
    profiles.write(surveyed.own, job.out / "profile.json")
    receipts.write_json(job.out / "domain.json", {"profile": profile, **surveyed.document()})


def _expect(
    job: Job, suites: dict[str, expectations.Suite], frames: dict[str, pd.DataFrame]
) -> list[dict[str, Any]]:
    """Check the tables against the suites; write the verdicts and Great Expectations' pages."""
    results = expectations.run(suites, frames)
    verdicts = expectations.verdicts(results)
    receipts.write_json(job.out / "expectations.json", verdicts)
    data_docs.write(results, job.out / "data_docs")
    return verdicts


def _shares(
    sifted: Sifted, samples: pd.DataFrame, findings: dict[str, Any], surveyed: Survey
) -> dict[str, float]:
    largest = findings["largest"]["rows"]
    return {
        "quarantined": len(sifted.bad) / sifted.rows,
        "largest_group": (largest if largest > 1 else 0) / len(samples),
        "unknown_tokens": surveyed.unknown_tokens(),
    }


def _explained(
    sifted: Sifted,
    samples: pd.DataFrame,
    findings: dict[str, Any],
    shares: dict[str, float],
    surveyed: Survey,
    validate: Validate,
    base: str,
) -> dict[str, str]:
    """Return, for some columns of expectations, the sentence that a failure adds."""
    return {
        "quarantined": _most_of(sifted.bad, sifted.rows, validate.max_bad_fraction),
        "largest_group": _largest(findings["largest"], len(samples), validate.max_group_fraction),
        "unknown_tokens": (
            f"{base} does not know {shares['unknown_tokens']:.0%} of the tokens of these texts; "
            "take a base model of their language"
        ),
        "over_limit": surveyed.far(),
    }


def _most_of(bad: pd.DataFrame, total: int, ceiling: float) -> str:
    """Say how many rows are bad, by code, and the first of them."""
    if bad.empty:
        return f"none of {total} rows is bad"
    codes = ", ".join(f"{n} {code}" for code, n in bad["code"].value_counts().items())
    first = bad.iloc[0]
    return (
        f"{len(bad)} of {total} rows are bad "
        f"({codes}; first {first['origin']}: {first['reason']}), at most {ceiling:.1%} may be"
    )


def _largest(largest: dict[str, Any], total: int, ceiling: float) -> str:
    rows, first = largest["rows"], largest["origins"][0]
    return f"{rows} of {total} rows are alike (first {first}), at most {ceiling:.1%} may be"


def _summary(
    sifted: Sifted, samples: pd.DataFrame, findings: dict[str, Any], labels: list[str]
) -> str:
    """Return how many rows and labels there are, and what was found among them."""
    repeated = len(samples) - samples["group"].nunique()
    mixed, notes = len(findings["near_duplicates_with_different_labels"]), len(findings["notes"])
    line = f"{len(samples):,} rows{f' of {len(labels)} labels' if labels else ''}"
    line += f", {repeated:,} repeat another"
    line += f" ({mixed} groups of several labels)" if mixed else ""
    line += f", {notes:,} have a note" if notes else ""
    line += f", {len(sifted.junk):,} junk files skipped" if sifted.junk else ""
    return f"{line}, {len(sifted.bad):,} in quarantine"


if __name__ == "__main__":
    runner.run(validate)
