"""Look whether retraining is due, and run the DAG only then.

Retraining is due after data changed or drifted, and if the champion is old.
"""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.desk import StageError, update
from flows.pipeline import NOTHING, pipeline
from flows.reproduce import Dvc
from flows.runs import alone, check, ended_by, once, warn
from stages.contract import runner
from stages.contract.errors import RefitError
from stages.contract.escape import one_line
from stages.params.flows import Watch
from stages.params.task import Params
from stages.project import graph, preflight

DUE, NOT_DUE = "Due", "NotDue"
RAW = "data/raw/"


@dataclass(frozen=True)
class Found:
    """What was looked at for a task, and the part of it that makes retraining due."""

    looked: list[str]
    due: list[str]


@flow(name="refit-watch", persist_result=False)
def watch(tasks: list[str] | None = None) -> State[Any]:
    """Bring imported data up to date, and run the DAG for the tasks that are due.

    Look at all tasks, or at those named, and say why for each.
    """
    try:
        runner.quiet()
        params = check(tasks)
        with alone():
            findings = _looked(params, set(tasks or params.tasks))
    except (RefitError, OSError) as error:
        return ended_by(error)
    rows = [
        {"task": key, "due": "; ".join(of.due) or "no", "looked at": "; ".join(of.looked)}
        for key, of in findings.items()
    ]
    create_table_artifact(rows, key="watch", description="Is retraining due?")
    if due := {key: "; ".join(of.due) for key, of in findings.items() if of.due}:
        return _retrained(due)
    looked = "; ".join(f"{key}: {', '.join(of.looked)}" for key, of in findings.items())
    return Completed(name=NOT_DUE, message=f"not due: {looked}")


def _looked(params: Params, keys: set[str]) -> dict[str, Found]:
    """Bring imported data up to date, and return what a look at each of these tasks finds."""
    warn(preflight.look(params, keys))
    dag = _refreshed(keys)
    return {
        key: look.with_options(task_run_name=f"look@{key}")(key, params, dag)
        for key in params.tasks
        if key in keys
    }


def _retrained(due: dict[str, str]) -> State[Any]:
    """Run the DAG for the tasks that are due, by their reasons; return how that ended."""
    why = "; ".join(f"{key}: {reasons}" for key, reasons in due.items())
    state = pipeline(list(due), return_state=True)
    if not state.is_completed():
        return Failed(
            message=f"due ({why}), but the run ended as {state.name}: {one_line(state.message)}"
        )
    then = (
        "data and settings are those of the last candidate, "
        "so training again would give the same bytes: bring newly labelled rows"
    )
    return Completed(
        name=DUE,
        message=f"due ({why}); {then if state.name == NOTHING else one_line(state.message)}",
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def look(key: str, params: Params, dag: graph.Dag) -> Found:
    """Look at a task's data, champion and logged predictions; log each line."""
    findings = Found([], [])
    for line, is_due in (_data(key, dag), *_champion(key, params.flows.watch)):
        (findings.due if is_due else findings.looked).append(line)
        get_run_logger().info(f"{key}: {line}{', so retraining is due' if is_due else ''}")
    return findings


def _refreshed(keys: set[str]) -> graph.Dag:
    """Return the DAG after bringing imported data up to date."""
    dag = graph.ask(Path.cwd(), keys)
    if dag.imports:
        with closing(Dvc()) as dvc:
            update(dag, dvc, get_run_logger())
        dag = graph.ask(Path.cwd(), keys)
    return dag


def _data(key: str, dag: graph.Dag) -> tuple[str, bool]:
    """Say whether raw data differs from that of the last run.

    Changed settings or code are the pipeline's own to run.
    """
    changed = [of for address, of in dag.changed.items() if address.endswith(f"@{key}")]
    reasons = [reason for of in changed for reason in of if isinstance(reason, dict)]
    deps = {path for reason in reasons for path in reason.get("changed deps", {})}
    if paths := sorted(path for path in deps if path.startswith(RAW)):
        return f"{', '.join(paths)} changed", True
    return "data did not change" + (" (settings or code did)" if reasons else ""), False


def _champion(key: str, of: Watch) -> list[tuple[str, bool]]:
    """Say how old the champion is, and how far its data is from other data.

    The other data are today's, and what the champion was asked lately.
    """
    history = _refit("history", key)
    if history is None or history["champion"] is None:
        return [("there is no champion yet", True)]
    age = datetime.now(UTC) - datetime.fromisoformat(history["moves"][-1]["when"])
    old = of.max_age_days is not None and age > timedelta(days=of.max_age_days)
    limit = "no limit" if of.max_age_days is None else f"at most {of.max_age_days:g}"
    logged = ["--logged", f"{of.logged_days:g}"]
    return [
        (f"the champion is {age / timedelta(days=1):.1f} days old ({limit})", old),
        _drift("validated data", _refit("drift", key), of.max_far),
        _drift("logged predictions", _refit("drift", key, *logged), of.max_far),
    ]


def _drift(what: str, drift: Any, most: int) -> tuple[str, bool]:
    """Say how many measures are far, and whether that is too many; drift is null if none knows."""
    if drift is None:
        return (
            f"{what}: cannot tell, which is no sign that nothing changed (the log says why)",
            False,
        )
    far, measures = drift["far"], len(drift["measures"])
    named = f" ({', '.join(far)})" if far else ""
    line = f"{what}: {len(far)} of {measures} measures far{named}, at most {most}"
    return line, len(far) > most


def _refit(*arguments: str) -> Any:
    """Return what `refit ARGUMENTS --json` answers.

    The result is null if it refuses (exit code 2; its line is logged). Raises StageError if it
    fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "stages.cli", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 2):
        raise StageError(
            f"refit {' '.join(arguments)}: {one_line(done.stderr[-600:])}", done.returncode
        )
    if done.returncode:
        get_run_logger().info(one_line(done.stderr.strip()))
        return None
    return json.loads(done.stdout)


if __name__ == "__main__":
    once(sys.argv[1:], lambda: watch(sys.argv[1:] or None, return_state=True))
