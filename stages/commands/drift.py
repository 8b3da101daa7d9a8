"""Compares data with what the champion learned from: today's validated data, or any file of new rows."""

from dataclasses import dataclass
from pathlib import Path

from stages import registry
from stages.checks import domain, profiles
from stages.checks.distances import Measure
from stages.commands import rows
from stages.contract import runner, settings
from stages.contract.errors import ProfileError


@dataclass(frozen=True)
class Result:
    """How far `data` is from the data of `champion`, measure by measure; far names those beyond their limits."""

    champion: str
    data: str
    rows: int
    measures: list[Measure]
    far: list[str]


def drift(task: str, source: Path | None, column: str | None) -> Result:
    """Compare the task's validated data, or the rows of a file, with the data of its champion; raises ProfileError where it left no profile."""
    runner.quiet()
    of = settings.task(task)
    runner.ping_tracking()
    champion, want = registry.version(task, None), of.validate.domain
    with registry.artifact(champion, "domain/profile.json") as logged:
        if logged is None:
            raise ProfileError(f"{task}@{champion.number}: was registered without a profile of its data; train and register it anew")
        reference = profiles.read(logged)
    here = source or Path("data/validate", task, "profile.json")
    if source is None:
        new = profiles.read(here)
    else:
        how, run_base = profiles.asked_as(reference, of.modality), want.run_base and reference.embeddings is not None
        new, _ = rows.measured([source], column, of, how, run_base)
    measures = domain.drift(reference, new, want.false_alarms, want.seed)
    return Result(f"{task}@{champion.number}", str(here), len(new.group), measures, [one.measure for one in measures if one.far])
