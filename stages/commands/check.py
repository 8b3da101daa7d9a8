"""Check params, data, servers and disk before anything runs, and report all that is wrong."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.checks import expectations, trial
from stages.commands import estimate
from stages.contract import escape, location, paths, plugins, runner, settings, store, walk
from stages.contract.errors import ParamsError, RefitError
from stages.contract.escape import one_line, redact
from stages.layouts import table
from stages.models import linear, loading
from stages.params.augment import Transform
from stages.params.data import Data, Table
from stages.params.finetune import ProbeHead
from stages.params.task import Params, Task
from stages.project import preflight, tracking


@dataclass(frozen=True)
class Finding:
    """One thing that was checked, whether it is right, and what was seen or has to be done."""

    what: str
    ok: bool
    fact: str


def check() -> list[Finding]:
    """Check everything, and go on after an error; raise nothing that a user could mend."""
    runner.quiet()
    try:
        params = settings.load()
    except ParamsError as error:
        return [Finding("params.yaml", False, str(error))]
    sizes = dict[str, int]()
    findings = [
        Finding("params.yaml", True, f"{len(params.tasks)} tasks"),
        _look("dvc.yaml", _stages),
        *(
            _look(f"data/raw/{name}", partial(_source, name, params, sizes))
            for name in _sources(params)
        ),
    ]
    for key, task in params.tasks.items():
        findings += _of_task(key, task)
        if all(finding.ok for finding in findings):
            findings.append(Finding(f"tasks.{key} takes", True, estimate.say(key, task)))
    return [
        *findings,
        Finding("ports of make up", True, _ports()),
        _look("MLflow", partial(_tracking, params)),
        _look("DVC remote", _remote),
        _look("disk", partial(_space, params, sizes)),
    ]


def told(findings: list[Finding]) -> list[str]:
    """Return what was found as lines for a person to read."""
    return [
        f"{'ok   ' if found.ok else 'WRONG'} {one_line(found.what, 40):<28} {one_line(found.fact)}"
        for found in findings
    ]


def _of_task(key: str, task: Task) -> Iterator[Finding]:
    """Yield what is checked of one task; of its data and its base model, if they are here."""
    robustness = task.evaluate.robustness.transforms
    yield _look(f"tasks.{key}.validate", partial(_validate, task))
    yield _look(f"tasks.{key}.augment", partial(_transforms, task, task.augment.transforms))
    yield _look(f"tasks.{key}.evaluate.robustness", partial(_transforms, task, robustness))
    if Path("data/raw", task.data.source).exists():
        yield _look(f"tasks.{key}.data", partial(_data, task.data))
    if Path("data/raw", task.base).exists():
        yield _look(f"tasks.{key}.base", partial(_base, task))


def _look(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except RefitError as error:
        return Finding(what, False, str(error))


def _stages() -> str:
    return f"{len(tracking.dvc('stage', 'list', '--all', '--name-only').split())} stages"


def _sources(params: Params) -> Iterator[str]:
    yield from dict.fromkeys(
        [
            *params.sources,
            *(name for task in params.tasks.values() for name in (task.data.source, task.base)),
        ]
    )


def _source(name: str, params: Params, sizes: dict[str, int]) -> str:
    """Walk a source if it is here, and note its size in bytes."""
    folder = Path("data/raw", name)
    if folder.exists():
        walked = walk.walk(folder)
        sizes[name] = walked.size
        return f"{len(walked.files):,} files, {walked.size / 1e6:.1f} MB"
    if name in params.sources:
        return f"not here yet; dvc repro fetches it ({params.sources[name].origin.name})"
    raise ParamsError(f"not here; run `dvc pull {folder}.dvc`, or `dvc checkout {folder}.dvc`")


def _data(data: Data) -> str:
    """Check the names of files and columns, without reading a row."""
    folder, layout = Path("data/raw", data.source), data.layout
    if not isinstance(layout, Table):
        lacking = [
            str(folder / entry.path)
            for entry in layout.folders
            if not (folder / entry.path).is_dir()
        ]
        if lacking:
            raise ParamsError(f"no such folder: {', '.join(lacking)}; mend data.layout.folders")
        return f"{len(layout.folders)} folders"
    for file in layout.files:
        names = table.header(paths.inside(folder, file.path), data.encoding, layout.dialect)
        for column in (layout.columns.x, *layout.columns.ys):
            table.column(names, column, folder / file.path)
    return (
        f"{len(layout.files)} tables with columns "
        f"{', '.join((layout.columns.x, *layout.columns.ys))}"
    )


def _validate(task: Task) -> str:
    if faults := expectations.faults(task.validate):
        raise ParamsError("; ".join(faults))
    return f"{len(task.validate.expectations)} expectations of your own"


def _transforms(task: Task, transforms: tuple[Transform, ...]) -> str:
    if faults := plugins.modality(task.modality.name).altering.faults(transforms):
        raise ParamsError("; ".join(faults))
    return f"{len(transforms)} transforms"


def _base(task: Task) -> str:
    folder, of_y = Path("data/raw", task.base), plugins.problem(task.problem.name)
    trial.require(folder, plugins.modality(task.modality.name), of_y, task.modality)
    if isinstance(task.finetune.head, ProbeHead):
        linear.head(*loading.load(of_y, folder, task.modality.name, trial.LABELS, new_head=True))
    return f"{folder}: a batch of the largest rows went through it, and back"


def _tracking(params: Params) -> str:
    for key in params.tasks:
        store.require_recordable(key)
    if (file := location.database()) is None:
        return escape.address(os.environ["MLFLOW_TRACKING_URI"])
    return f"{file}" if file.exists() else f"{file}, which the first register makes"


def _ports() -> str:
    """Say which ports of `make up` another program uses; that stops no run."""
    taken = list[str]()
    for name, port in store.PORTS.items():
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                taken.append(
                    f"{port} is taken (`make up {name.upper()}_PORT=...`, unless it is Refit's "
                    "own server)"
                )
    return "; ".join(taken) or f"{' and '.join(map(str, store.PORTS.values()))} are free"


def _remote() -> str:
    remotes = tracking.dvc("remote", "list").split("\n")[0]
    return (
        redact(" ".join(remotes.split()))
        or "none; `dvc push` needs one (dvc remote add -d NAME URL)"
    )


def _space(params: Params, sizes: dict[str, int]) -> str:
    preflight.require_writable()
    return preflight.require_space(params, preflight.sizes(params, params.tasks, sizes))
