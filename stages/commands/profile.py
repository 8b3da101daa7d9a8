"""Makes the profile of a domain from any reference data: what `validate.domain.profile` names."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from stages.checks import activations, profiles
from stages.commands import rows
from stages.contract import plugins, receipts, runner, settings
from stages.contract.errors import DataError, ParamsError, ProfileError
from stages.contract.escape import extract, one_line
from stages.contract.params import Task


@dataclass(frozen=True)
class Result:
    """The profile that was written: rows by the reference that they come from, bytes of the file."""

    profile: Path
    rows: dict[str, int]
    size: int


def profile(name: str, sources: list[Path], task: str, column: str | None, classes: int | None, batchnorm: bool, force: bool) -> Result:
    """Write data/profiles/NAME.json from reference data, which is read, and whose base model is run, as `task` says.

    Every source is a group of its own: other data is far where it is farther from all of them than each of them is. classes
    is the number of classes that the base model was pretrained to tell, equally frequent; batchnorm says that the
    statistics of its BatchNorm layers are those of pretraining.
    """
    runner.quiet()
    tasks, path = settings.load().tasks, profiles.FOLDER / f"{name}.json"
    if task not in tasks:
        raise ParamsError(f"params.yaml: there is no task '{extract(task)}'; have: {', '.join(tasks) or 'none'}")
    if name == "unknown" or not settings.is_key(name):
        raise ProfileError(f"{extract(name)}: a profile's name is made of a-z, 0-9 and _, and is not `unknown`")
    if path.exists() and not force:
        raise ProfileError(f"{path}: is there already; say --force to write over it")
    of, base = tasks[task], Path("data/raw", tasks[task].base)
    if not base.is_dir():
        raise ProfileError(f"{base}: the base model is not here; run `dvc repro fetch@{of.base}` or `dvc pull`")
    of_x, want = plugins.modality(of.modality.name), of.validate.domain
    taken = pd.concat([_drawn(source, column, of, len(sources)).assign(group=i) for i, source in enumerate(sources)], ignore_index=True)
    looked = of_x.look(taken["x"], of.modality)
    good = looked["code"].isna()
    if not good.any():
        raise DataError(f"{extract(str(sources[0]))}: not one row is fit ({one_line(looked['reason'].iloc[0], 200)})")
    plugs, how = (of_x, plugins.problem(of.problem.name)), (of.modality, of.compute)
    made = {"by": "refit profile", "base": of.base, "seed": str(want.seed)} | {f"group {i}": _name(source) for i, source in enumerate(sources)}
    held, seen = profiles.take(made, taken[good], looked[good], plugs, base, how, want.run_base)
    if seen and batchnorm and not seen.layers:
        raise ProfileError(f"{base}: has no BatchNorm layer; leave --batchnorm out")
    held = replace(
        held,
        labels={str(i): 1.0 for i in range(classes)} if classes else None,
        activations=activations.resampled(seen, activations.SIZES, np.random.default_rng(want.seed)) if seen and batchnorm else None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    profiles.write(held, path)
    return Result(path, {_name(source): held.group.count(i) for i, source in enumerate(sources)}, path.stat().st_size)


def _drawn(source: Path, column: str | None, of: Task, sources: int) -> pd.DataFrame:
    """Return this source's share of the sample."""
    if not source.exists():
        raise DataError(f"{extract(str(source))}: is not there")
    found = rows.read(source, column, of, of.modality.name)
    good = found[found["code"].isna()]
    if good.empty:
        raise DataError(f"{extract(str(source))}: holds not one row that can be read")
    return good.sample(min(len(good), of.validate.domain.sample // sources), random_state=of.validate.domain.seed)


def _name(source: Path) -> str:
    """Return a source's name and the sha256 of its files."""
    files = receipts.files(source, ["."]) if source.is_dir() else {source.name: receipts.sha256(source)}
    return f"{one_line(source.name, 100)} sha256 {receipts.digest(files)[:16]}"
