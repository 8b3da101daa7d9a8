"""Show the state of each task.

The state is its stages and why one is out of date, its champion, the last decision, and what to do
next.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stages.contract import location, locks, progress, receipts, runner, settings, store
from stages.contract.errors import RegistryError, UnreachableError
from stages.contract.escape import one_line
from stages.params.task import Task
from stages.project import tracking
from stages.project.lineage import STAGES

SHOWN = 4  # reasons of a stage


@dataclass(frozen=True)
class Status:
    """The state of one task.

    It is a line for the champion, a line for each stage that is out of date, the last decision, and
    what to do next.
    """

    task: str
    champion: str
    stages: list[str]
    decision: list[str]
    next: list[str]


def status() -> list[Status]:
    """Ask DVC and the registry, side by side.

    If the registry does not answer, each task says so and still shows the rest.
    """
    runner.quiet()
    tasks = settings.load().tasks
    changed, busy, registered = tracking.status(meanwhile=lambda: _registered([*tasks]))
    return [_of(key, task, changed, busy, *registered[key]) for key, task in tasks.items()]


def told(found: list[Status]) -> list[str]:
    """Return the states as lines for a person to read."""
    return [line for task in found for line in _lines(task)]


def _lines(task: Status) -> list[str]:
    below = (*task.stages, *task.decision, *(f"next: {what}" for what in task.next))
    return [
        f"{task.task}: {one_line(task.champion)}",
        *(f"  {one_line(line)}" for line in below),
    ]


def _registered(tasks: list[str]) -> dict[str, tuple[str, bool]]:
    """Return each task's champion, and whether the registry lacks its candidate.

    A server that does not answer is asked only once.
    """
    found = dict[str, tuple[str, bool]]()
    try:
        store.ping()
        for key in tasks:
            found[key] = (_champion(key), _lacks(key))
    except (RegistryError, UnreachableError) as error:
        found |= {key: (f"champion unknown: {error}", False) for key in tasks if key not in found}
    return found


def _of(
    key: str, task: Task, changed: dict[str, Any], busy: list[str], champion: str, lacking: bool
) -> Status:
    sources = [
        name
        for source in (task.data.source, task.base)
        for name in (f"fetch@{source}", f"data/raw/{source}.dvc")
    ]
    names = [*dict.fromkeys(sources), *(f"{stage}@{key}" for stage in STAGES)]
    stale = [f"{name}: {why(changed[name])}" for name in names if name in changed]
    now = [f"{name}: {running(name)}" for name in names if name in busy]
    decided = Path("data/register", key, "decision.json")
    decision = (
        [_decision(receipts.read_json(decided))] if decided.is_file() else ["no decision yet"]
    )
    following = [f"`dvc repro register@{key}`{_took(key, changed)}"] if stale else []
    if now:
        following = ["wait until it has run"]
    if changed.keys() & set(names) <= {f"register@{key}"} and lacking:
        force = "" if stale else "--force --single-item "
        following = [
            f"the registry here lacks this candidate; `dvc repro {force}register@{key}` judges "
            "and registers it"
        ]
    shown = now + stale or ["every stage is up to date"]
    return Status(key, champion, shown, decision, following)


def _champion(task: str) -> str:
    from stages.registry import registered

    found = registered.champion(task) if location.exists() else None
    return (
        f"champion is version {found.number}, promoted against {found.judged_against}"
        if found
        else "no champion"
    )


def _lacks(task: str) -> bool:
    """Say whether the registry lacks the candidate here, as after `dvc pull` on another machine."""
    from stages.models import scoring
    from stages.registry import registered

    folder = Path("data/export", task)
    if not (folder / "model.json").is_file() or not (folder / "model").is_dir():
        return False
    return not location.exists() or registered.find(task, scoring.identity(folder)) is None


def _decision(decision: dict[str, Any]) -> str:
    reasons = "; ".join(verdict["reason"] for verdict in decision["verdicts"])
    return (
        f"last decision: {decision['outcome']} version {decision['candidate']['version']} against "
        f"{decision['against']}: {reasons}"
    )


def running(stage: str) -> str:
    """Say since when a stage that DVC cannot look at has been running, or that it waits."""
    name, _, key = stage.partition("@")
    if not (holder := locks.holder(Path("data/.work", name, key))):
        return "waits for a stage that is running"
    since = datetime.fromisoformat(holder["since"]).astimezone()
    return f"has been running since {since:%H:%M:%S} (process {holder['pid']})"


def _took(key: str, changed: dict[str, Any]) -> str:
    """Say how long the stages that would run took last time, if all of them have run."""
    first = next((i for i, of in enumerate(STAGES) if f"{of}@{key}" in changed), 0)
    taken = [seconds(f"{stage}@{key}") for stage in STAGES[first:]]
    known = [of for of in taken if of is not None]
    return f" (last time: {progress.spell(sum(known))})" if len(known) == len(taken) else ""


def seconds(stage: str) -> float | None:
    """Return how long a stage took last time, or None if it has not run."""
    name, _, key = stage.partition("@")
    timing = Path("data", name, key, "timing.json")
    if not timing.is_file():
        return None
    found = receipts.read_json(timing)
    return found["seconds_before_work"] + found["seconds_of_work"]


def why(entries: list[Any]) -> str:
    """Return DVC's reasons in a few words: what changed, is new, or is missing."""
    reasons: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
            continue
        for paths in entry.values():
            for path, state in paths.items():
                reasons += (
                    [f"{path} {state}"]
                    if isinstance(state, str)
                    else [f"{key} {how}" for key, how in state.items()]
                )
    if "params.yaml new" in reasons:
        return "never run here"
    return ", ".join(reasons[:SHOWN]) + (
        f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    )
