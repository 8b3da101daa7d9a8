"""Compare data with the data that the champion learned from.

The data is today's validated data, any file of new rows, or what was predicted lately.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stages.commands import rows
from stages.commands.predict import KEPT, STAMP
from stages.contract import runner, settings, store
from stages.contract.errors import DataError, ProfileError
from stages.contract.escape import one_line
from stages.domain import distances, profiles, survey
from stages.domain.distances import Measure
from stages.domain.profiles import Profile
from stages.params.task import Task
from stages.registry import registered
from stages.registry.registered import Version


@dataclass(frozen=True)
class Result:
    """How far `data` is from the data of `champion`, measure by measure.

    read says what was taken for x if the data is a table; far names the measures beyond their
    limits.
    """

    champion: str
    data: str
    read: str
    rows: int
    measures: list[Measure]
    far: list[str]


def drift(
    task: str, source: Path | None, column: str | None, logged_days: float | None = None
) -> Result:
    """Compare data of a task with the data of its champion.

    The data is the rows of `source`, the rows that `refit predict --log` kept in the last
    `logged_days` days, or else the task's validated data. Raises ProfileError if the champion left
    no profile, DataError if nothing was kept.
    """
    runner.quiet()
    of = settings.task(task)
    sources = [source] if source else []
    if logged_days is not None:
        if source:
            raise DataError("name a file, or --logged, and not both")
        sources, column = _kept(task, of, logged_days), "x"
    store.ping()
    champion = registered.version(task, None)
    reference = _profile(champion)
    here = source or (KEPT / task if sources else Path("data/validate", task, "profile.json"))
    new = _measured(sources, column, of, reference) if sources else profiles.read(here)
    measures = _measures(reference, new, of, here)
    read = rows.reading(source, column, of).why if source and rows.is_table(source) else ""
    far = [one.measure for one in measures if one.far]
    return Result(f"{task}@{champion.number}", str(here), read, len(new.group), measures, far)


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    return [
        *([f"read: {one_line(found.read, 200)}"] if found.read else []),
        *(
            f"{'FAR  ' if measure.far else 'near '} {one_line(str(measure), 300)}"
            for measure in found.measures
        ),
        f"{one_line(found.data, 200)}: {found.rows:,} rows, {len(found.far)} of "
        f"{len(found.measures)} measures beyond what {found.champion}'s own data shows",
    ]


def _profile(champion: Version) -> Profile:
    """Return the profile of the data that a version learned from."""
    with registered.artifact(champion, "domain/profile.json") as profile:
        if profile is None:
            raise ProfileError(
                f"{champion.name}@{champion.number}: was registered without a profile of its "
                "data; train and register it anew"
            )
        return profiles.read(profile)


def _measured(sources: list[Path], column: str | None, of: Task, reference: Profile) -> Profile:
    """Return the profile of new rows, measured as the reference was."""
    how = profiles.asked_as(reference, of.modality)
    run_base = of.validate.domain.run_base and reference.embeddings is not None
    return rows.measured(sources, column, of, how, run_base)[0]


def _measures(reference: Profile, new: Profile, of: Task, here: Path) -> list[Measure]:
    """Return how far new data is from the reference; raise DataError if that cannot be told."""
    want = of.validate.domain
    measures = survey.drift(reference, new, want.false_alarms, want.seed)
    if not measures:
        few = min(len(new.group), len(reference.group))
        raise DataError(
            f"{here}: cannot tell: {few:,} rows are too few to measure, {distances.LEAST_ROWS} "
            "are needed here and of what the champion learned from"
        )
    return measures


def _kept(task: str, of: Task, days: float) -> list[Path]:
    """Return the tables of predictions that were kept in the last `days` days."""
    if of.modality.name == "image":
        raise DataError(
            f"{task}: kept predictions of pictures name files that may be gone; compare a folder: "
            f"refit drift {task} FOLDER"
        )
    since = f"{datetime.now(UTC) - timedelta(days=days):{STAMP}}"
    if not (
        tables := sorted(path for path in (KEPT / task).glob("*.parquet") if path.name >= since)
    ):
        raise DataError(
            f"{KEPT / task}: no predictions were kept in the last {days:g} days; `refit predict "
            "--log` keeps them"
        )
    return tables
