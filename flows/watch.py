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

from flows import graph
from flows.pipeline import NOTHING, StageError, alone, check, ended_by, once, pipeline, update, warn
from flows.reproduce import Dvc
from stages.contract import runner
from stages.contract.errors import RefitError
from stages.contract.escape import one_line
from stages.params.flows import Watch
from stages.params.task import Params
from stages.project import preflight

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
        keys = set(tasks or params.tasks)
        with alone():
            warn(preflight.look(params, keys))
            dag = _refreshed(keys)
            findings = {
                key: look.with_options(task_run_name=f"look@{key}")(key, params, dag)
                for key in params.tasks
                if key in keys
            }
    except (RefitError, OSError) as error:
        return ended_by(error)
    rows = [
        {"task": key, "due": "; ".join(of.due) or "no", "looked at": "; ".join(of.looked)}
        for key, of in findings.items()
    ]
    create_table_artifact(rows, key="watch", description="Is retraining due?")
    due = {key: "; ".join(of.due) for key, of in findings.items() if of.due}
    if not due:
        return Completed(
            name=NOT_DUE,
            message="not due: "
            + "; ".join(f"{key}: {', '.join(of.looked)}" for key, of in findings.items()),
        )
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
    reasons = [
        reason
        for address, of in dag.changed.items()
        if address.endswith(f"@{key}")
        for reason in of
        if isinstance(reason, dict)
    ]
    paths = {
        path
        for reason in reasons
        for path in reason.get("changed deps", {})
        if path.startswith(RAW)
    }
    if paths:
        return f"{', '.join(sorted(paths))} changed", True
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
    lines = [(f"the champion is {age / timedelta(days=1):.1f} days old ({limit})", old)]
    for what, arguments in {
        "validated data": [],
        "logged predictions": ["--logged", f"{of.logged_days:g}"],
    }.items():
        drift = _refit("drift", key, *arguments)
        if drift is None:
            lines.append(
                (
                    f"{what}: cannot tell, which is no sign that nothing changed "
                    "(the log says why)",
                    False,
                )
            )
        else:
            far = f" ({', '.join(drift['far'])})" if drift["far"] else ""
            lines.append(
                (
                    f"{what}: {len(drift['far'])} of {len(drift['measures'])} measures far{far}, "
                    f"at most {of.max_far}",
                    len(drift["far"]) > of.max_far,
                )
            )
    return lines


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
