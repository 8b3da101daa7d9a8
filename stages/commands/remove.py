"""Take a task away: what `refit add` wrote for it, and what its stages wrote.

The registry keeps its versions. Raw data stays unless the user says otherwise.
"""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from stages.commands import blocks
from stages.contract import locks, settings
from stages.params.task import Params
from stages.project import tracking
from stages.project.lineage import STAGES


@dataclass(frozen=True)
class Removed:
    """What was removed, and the raw data that stays."""

    task: str
    removed: list[str]
    stays: list[str]


def remove(name: str, data: bool) -> Removed:
    """Remove a task's block and outputs, and what no other task uses of its sources.

    A base model that DVC tracks stays: the user may have brought it. Raises ParamsError if there is
    no such task, BusyError if one of its stages is running.
    """
    with ExitStack() as held:
        held.enter_context(locks.Lock(Path("data/.work/add")))
        task, params = settings.task(name), settings.load()
        for stage in STAGES:
            held.enter_context(locks.Lock(Path("data/.work", stage, name)))
        alone = _used_by_it_alone(name, params)
        fetched = [("sources", of) for of in alone if of in params.sources]
        named = [("tasks", name), *fetched]
        blocks.remove(named)
        removed = [f"params.yaml: {section}.{key}" for section, key in named]
        removed += [
            _gone(folder) for stage in STAGES if (folder := Path("data", stage, name)).is_dir()
        ]
        tracked = Path("data/raw", f"{task.data.source}.dvc")
        if task.data.source in alone and tracked.is_file():
            tracking.dvc("remove", str(tracked))
            removed.append(str(tracked))
        own = [of for of in alone if of == task.data.source or of in params.sources]
        lying = [folder for of in own if (folder := Path("data/raw", of)).exists()]
        removed += [_gone(folder) for folder in lying] if data else []
    return Removed(name, removed, [] if data else [str(folder) for folder in lying])


def told(found: Removed) -> list[str]:
    """Return a result as lines for a person to read."""
    return [
        *(f"removed: {what}" for what in found.removed),
        *(f"stays: {folder} (`--data` removes it too)" for folder in found.stays),
        f"the registry keeps the versions of {found.task}",
    ]


def _used_by_it_alone(name: str, params: Params) -> list[str]:
    """Return the sources that no other task uses."""
    used = {
        source
        for key, task in params.tasks.items()
        if key != name
        for source in task.sources.values()
    }
    return [of for of in dict.fromkeys(params.tasks[name].sources.values()) if of not in used]


def _gone(folder: Path) -> str:
    shutil.rmtree(folder)
    return str(folder)
