"""Run the DAG once as a Prefect flow.

Each DVC stage is a task, which starts when the stages that it waits for are done. DVC remains the
one place where the DAG is written, and the one that decides that nothing changed.
"""

import argparse
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import api, artifacts
from flows.desk import Desk, StageError, kept, said, update
from flows.runs import alone, check, ended_by, once, warn
from stages.contract import receipts, runner, store
from stages.contract.errors import BusyError, RefitError, UnreachableError
from stages.contract.escape import one_line
from stages.params.task import Params
from stages.project import graph, preflight

HELPED_BY_WAITING = (BusyError.exit_code, UnreachableError.exit_code)
RETRIED = ("fetch", "register")  # these ask servers; another try of the others would fail alike
NOTHING, PROMOTED, UNCHANGED = "NothingToDo", "Promoted", "Unchanged"


def _is_worth_another_try(_: object, __: object, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.exit_code in HELPED_BY_WAITING


@task(cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_worth_another_try)
def run_stage(address: str, desk: Desk, force: bool) -> State[Any] | None:
    """Reproduce one DVC stage; log its output line by line, and make artifacts of what it found.

    The state is `Unchanged` if the stages before it wrote the same bytes as before. If a source
    does not answer when it is fetched anew, it is left as it was.
    """
    log, forced = get_run_logger(), ["--force"] if force else []
    with (
        desk.borrowed() as dvc,
        kept(dvc, log, address) if address.startswith("fetch@") and force else nullcontext(),
    ):
        if not said(dvc, log, "--wait-for-lock", "repro", "--single-item", *forced, address):
            return Completed(name=UNCHANGED, message="nothing that it reads has other bytes")
        desk.ran.append(address)
        if api.is_there():
            artifacts.leave(address)
        else:
            log.warning(f"{address} leaves no artifacts: Prefect's server does not answer")
        return None


def _named() -> str:
    """Return the name of a run before it is known how it ends: its tasks."""
    return ", ".join(flow_run.parameters["tasks"] or ["all tasks"])


@flow(name="refit", flow_run_name=_named, persist_result=False)
def pipeline(
    tasks: list[str] | None = None,
    refresh: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> State[Any]:
    """Run the stages of all tasks, or of those named; a failure stops only what waits for it.

    refresh first brings imported data up to date and fetches the other sources anew; force runs
    stages that did not change; dry_run only says what would run. What a person must mend fails the
    run, with that line as its reason.
    """
    try:
        runner.quiet()
        params = check(tasks)
        with alone():
            return _carry_out(params, set(tasks or params.tasks), refresh, force, dry_run)
    except (RefitError, OSError) as error:
        return ended_by(error)


def _carry_out(
    params: Params, keys: set[str], refresh: bool, force: bool, dry_run: bool
) -> State[Any]:
    warn(preflight.look(params, keys))
    dag = graph.ask(Path.cwd(), keys)
    if dry_run:
        return _told(dag, force)
    if not dag.changed and not refresh and not force:
        return _nothing(len(dag.waits))
    store.ping()
    with Desk(params.flows.side_by_side).open() as desk:
        if refresh and dag.imports:
            with desk.borrowed() as dvc:
                update(dag, dvc, get_run_logger())
            dag = graph.ask(Path.cwd(), keys)
        states = _run(dag, desk, params, ("",) if force else ("fetch@",) if refresh else ())
    try:
        warn(preflight.mend())
    except OSError as error:  # a full disk, for one; a stage has said more of it
        warn([f"dvc.lock was not copied: {error}"])
    return _ended(states, desk, len(dag.waits))


def _run(
    dag: graph.Dag, desk: Desk, params: Params, forced: tuple[str, ...]
) -> dict[str, State[Any]]:
    """Run every stage that may have to as a task; return how each ended.

    As many run side by side as params.yaml says. Stages whose name starts as in `forced` run in any
    case.
    """
    futures: dict[str, PrefectFuture[State[Any] | None]] = {}
    may_run = dag.may_run(forced)
    with ThreadPoolTaskRunner[Any](max_workers=params.flows.side_by_side) as threads:
        for address in [address for address in dag.waits if address in may_run]:
            named = run_stage.with_options(
                task_run_name=address,
                retries=params.flows.retries if address.partition("@")[0] in RETRIED else 0,
                retry_delay_seconds=params.flows.retry_seconds,
            )
            given = {"address": address, "desk": desk, "force": address.startswith(forced)}
            befores = [futures[name] for name in dag.waits[address] if name in may_run]
            futures[address] = threads.submit(named, given, wait_for=befores)
        wait(list(futures.values()))
    return {address: future.state for address, future in futures.items()}


def _ended(states: dict[str, State[Any]], desk: Desk, stages: int) -> State[Any]:
    """Return the state of the flow, given those of the stages that had to run or might have to."""
    if desk.stopped:
        return _stopped(desk.stopped)
    if bad := {address: state for address, state in states.items() if not state.is_completed()}:
        why = "; ".join(
            one_line(state.message, 300)
            for state in bad.values()
            if state.is_failed() and state.name != "NotReady"
        )
        return Failed(
            message=f"{len(bad)} of {stages} stages did not complete: {', '.join(bad)} ({why})"
        )
    if not desk.ran:
        return _nothing(stages)
    return _ran(desk.ran, stages)


def _stopped(number: int) -> State[Any]:
    """Return the state of a flow that a signal stopped."""
    message = (
        f"stopped by {signal.Signals(number).name}; the same run again goes on where this one ended"
    )
    return (Cancelled if api.is_cancelling(flow_run.id) else Crashed)(message=message)


def _nothing(stages: int) -> State[Any]:
    return Completed(name=NOTHING, message=f"nothing to do: none of {stages} stages changed")


def _ran(addresses: list[str], stages: int) -> State[Any]:
    """Return the state of a flow whose stages ran, with what the tasks' decisions are."""
    decided = {
        address.partition("@")[2]: _decision(address)
        for address in addresses
        if address.startswith("register@")
    }
    outcomes = ", ".join(f"{key}: {outcome}" for key, outcome in decided.items())
    if outcomes and api.is_there():
        api.name(flow_run.id, outcomes)
    message = f"{len(addresses)} of {stages} stages ran; {outcomes}"
    name = PROMOTED if "promote" in decided.values() else None
    return Completed(name=name, message=message.removesuffix("; "))


def _told(dag: graph.Dag, force: bool) -> State[Any]:
    """Log what would run and why, leave it as a table, and run nothing."""
    rows, may_run = list[dict[str, str]](), dag.may_run(("",) if force else ())
    for address, befores in dag.waits.items():
        if force or address in dag.changed:
            what = "would run: " + ("it is forced" if force else _why(dag.changed[address]))
        elif address in may_run:
            behind = [name for name in befores if name in may_run]
            what = f"would run if {' or '.join(behind)} writes other bytes"
        else:
            what = "did not change"
        rows.append({"stage": address, "what": what})
    for row in rows:
        get_run_logger().info(f"{row['stage']}: {row['what']}")
    create_table_artifact(rows, key="dry-run", description="What a run would do")
    return Completed(message=f"dry run: {len(may_run)} of {len(rows)} stages would run, or may")


def _why(reasons: list[Any]) -> str:
    """Return DVC's own reasons on one line."""
    return one_line(
        "; ".join(str(reason) for reason in reasons).translate({ord(c): None for c in "{}'"}), 300
    )


def _decision(address: str) -> str:
    return receipts.read_json(Path("data/register", address.partition("@")[2], "decision.json"))[
        "outcome"
    ]


def main() -> None:
    """Run the flow once, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline", description="Run the DAG once as a Prefect flow."
    )
    parser.add_argument("tasks", nargs="*", help="tasks of params.yaml; all unless named")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="bring imported data up to date and fetch the other sources anew",
    )
    parser.add_argument("--force", action="store_true", help="run stages that did not change too")
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    options = parser.parse_args()
    asked = options.tasks or None, options.refresh, options.force, options.dry_run
    once(options.tasks, lambda: pipeline(*asked, return_state=True))


if __name__ == "__main__":
    main()
