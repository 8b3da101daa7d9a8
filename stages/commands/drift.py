"""Compares data with what the champion learned from: today's validated data, or any file of new rows."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stages import registry
from stages.checks import domain, profiles
from stages.checks.distances import Measure
from stages.commands import rows
from stages.contract import plugins, runner, settings
from stages.contract.errors import DataError, ParamsError, ProfileError
from stages.contract.escape import extract


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
    tasks = settings.load().tasks
    if task not in tasks:
        raise ParamsError(f"params.yaml: there is no task '{extract(task)}'; have: {', '.join(tasks) or 'none'}")
    runner.ping_tracking()
    of, champion = tasks[task], registry.version(task, None)
    with TemporaryDirectory(prefix="refit-") as folder:
        logged = registry.artifact(champion, "domain/profile.json", Path(folder))
        if logged is None:
            raise ProfileError(f"{task}@{champion.number}: was registered without a profile of its data; train and register it anew")
        reference = profiles.read(logged)
    if source is None:
        here = Path("data/validate", task, "profile.json")
        new = profiles.read(here)
    else:
        here, of_x = source, plugins.modality(of.modality.name)
        found = rows.read(source, column, of, of.modality.name)
        found = found[found["code"].isna()]
        want = of.validate.domain
        found = found.sample(min(len(found), want.sample), random_state=want.seed).assign(group=0)
        looked = of_x.look(found["x"], of.modality)
        good = looked["code"].isna()
        if not good.any():
            raise DataError(f"{extract(str(source))}: not one row is fit to be compared")
        base = Path("data/raw", of.base)
        settings_of_x = plugins.settings(reference.modality) if reference.modality and reference.modality["name"] == of.modality.name else of.modality
        plugs = (of_x, plugins.problem(of.problem.name))
        run_base = want.run_base and reference.embeddings is not None
        new, _ = profiles.take({}, found[good], looked[good], plugs, base, (settings_of_x, of.compute), run_base)
    measures = domain.drift(reference, new, of.validate.domain.false_alarms, of.validate.domain.seed)
    return Result(f"{task}@{champion.number}", str(here), len(new.group), measures, [one.measure for one in measures if one.far])
