"""Make the profile of a domain from any reference data, for `validate.domain.profile` to name."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stages.commands import rows
from stages.contract import receipts, runner, settings
from stages.contract.errors import ProfileError
from stages.contract.escape import extract, one_line
from stages.domain import profiles
from stages.models import activations


@dataclass(frozen=True)
class Result:
    """The profile that was written, its rows by their reference, and the bytes of the file."""

    profile: Path
    rows: dict[str, int]
    size: int


def profile(
    name: str,
    sources: list[Path],
    task: str,
    column: str | None,
    classes: int | None,
    batchnorm: bool,
    force: bool,
) -> Result:
    """Write data/profiles/NAME.json from reference data.

    The data is read, and its base model run, as `task` says. Every source is a group of its own:
    other data is far if it is farther from all of them than each of them is. classes is the number
    of classes, equally frequent, that the base model was pretrained to tell apart; batchnorm says
    that the statistics of its BatchNorm layers come from pretraining.
    """
    runner.quiet()
    stated, path = settings.task(task), profiles.FOLDER / f"{name}.json"
    _require_place(name, path, force)
    want = stated.validate.domain
    held, seen = rows.measured(sources, column, stated, stated.modality, want.run_base)
    if seen and batchnorm and not seen.layers:
        raise ProfileError(f"data/raw/{stated.base}: has no BatchNorm layer; leave --batchnorm out")
    names = [_name(source) for source in sources]
    made = {"by": "refit profile", "base": stated.base, "seed": str(want.seed)}
    drawn = np.random.default_rng(want.seed)
    held = replace(
        held,
        made=made | {f"group {i}": name for i, name in enumerate(names)},
        labels={str(i): 1.0 for i in range(classes)} if classes else None,
        activations=activations.resampled(seen, activations.SIZES, drawn)
        if seen and batchnorm
        else None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    profiles.write(held, path)
    rows_of = {name: held.group.count(i) for i, name in enumerate(names)}
    return Result(path, rows_of, path.stat().st_size)


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    of = one_line(", ".join(f"{rows:,} of {name}" for name, rows in found.rows.items()), 300)
    return [
        f"{found.profile}: {sum(found.rows.values()):,} rows ({of}), {found.size / 1000:.0f} kB",
        f"next: name it in params.yaml: validate.domain.profile: {found.profile.stem}",
    ]


def _require_place(name: str, path: Path, force: bool) -> None:
    """Raise ProfileError for a name that is none, or a profile that must not be written over."""
    if name == "unknown" or not settings.is_key(name):
        raise ProfileError(
            f"{extract(name)}: a profile's name is made of a-z, 0-9 and _, and is not `unknown`"
        )
    if path.exists() and not force:
        raise ProfileError(f"{path}: is there already; say --force to write over it")


def _name(source: Path) -> str:
    """Return a source's name and the sha256 of its files."""
    files = (
        receipts.files(source, ["."]) if source.is_dir() else {source.name: receipts.sha256(source)}
    )
    return f"{one_line(source.name, 100)} sha256 {receipts.digest(files)[:16]}"
