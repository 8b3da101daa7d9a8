"""Run the DAG once as a Prefect flow.

Each DVC stage is a task, which starts when the stages that it waits for are done. DVC remains the
one place where the DAG is written, and the one that decides that nothing changed.
"""

import argparse
import queue
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import api, artifacts, graph
from flows.reproduce import Dvc
from stages.contract import locks, receipts, runner, settings, stopping, store
from stages.contract.errors import (
    BusyError,
    ParamsError,
    RefitError,
    UnreachableError,
    mendable,
    told,
)
from stages.contract.escape import one_line
from stages.params.task import Params
from stages.project import preflight

WORK = preflight.ALONE
HELPED_BY_WAITING = (BusyError.exit_code, UnreachableError.exit_code)
RETRIED = ("fetch", "register")  # these ask servers; another try of the others would fail alike
# for a server of a run's own to start: Prefect's 20 are too few on a busy machine with a new
# Prefect home
SECONDS = 240
NOTHING = "NothingToDo"
PROMOTED = "Promoted"


class StageError(RefitError):
    """A stage's command failed; its own line says why.

    exit_code is the command's own, or 1 if DVC did not start it.
    """

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code


class Desk:
    """Hands each stage to one of a few DVC processes, and stops all when the flow is asked to."""

    def __init__(self, side_by_side: int) -> None:
        self.stopped = 0
        self.closed = threading.Event()
        self.ran: list[str] = []
        self.all = [Dvc() for _ in range(side_by_side)]
        self.free: queue.Queue[Dvc] = queue.Queue()
        for dvc in self.all:
            self.free.put(dvc)

    @contextmanager
    def borrowed(self) -> Generator[Dvc]:
        """Yield a DVC that is free; raises StageError once the flow was asked to stop."""
        dvc = self.free.get()
        try:
            if self.stopped:
                raise StageError(
                    f"not started: the flow was stopped by {signal.Signals(self.stopped).name}", 1
                )
            yield dvc
        finally:
            self.free.put(dvc)

    def stop(self, number: int, _: object) -> None:
        """Ask the stages that run to stop, and start no other."""
        if not self.stopped:
            self.stopped = number
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        """Ask each stage once, until the desk closes.

        DVC may still be hashing what a stage depends on, and start it only then.
        """
        asked = set[psutil.Process]()
        while not self.closed.wait(0.1):
            for child in [child for dvc in self.all for child in dvc.below() if child not in asked]:
                asked.add(child)
                with suppress(psutil.NoSuchProcess):
                    child.terminate()

    @contextmanager
    def open(self) -> Generator["Desk"]:
        """Stop the stages when this process is asked to; end the DVC processes at the end."""
        main = threading.current_thread() is threading.main_thread()
        before = (
            {number: signal.signal(number, self.stop) for number in stopping.SIGNALS}
            if main
            else {}
        )
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.closed.set()
            for dvc in self.all:
                dvc.close()


def _is_worth_another_try(_: object, __: object, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.exit_code in HELPED_BY_WAITING


@task(cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=_is_worth_another_try)
def run_stage(address: str, desk: Desk, force: bool) -> None:
    """Reproduce one DVC stage; log its output line by line, and make artifacts of what it found.

    If a source does not answer when it is fetched anew, it is left as it was.
    """
    log = get_run_logger()
    with (
        desk.borrowed() as dvc,
        _kept(dvc, log, address) if address.startswith("fetch@") and force else nullcontext(),
    ):
        changed = _said(
            dvc,
            log,
            "--wait-for-lock",
            "repro",
            "--single-item",
            *(["--force"] if force else []),
            address,
        )
        if changed:
            desk.ran.append(address)
            if api.is_there():
                artifacts.leave(address)
            else:
                log.warning(f"{address} leaves no artifacts: Prefect's server does not answer")


@flow(name="refit", persist_result=False)
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


def ended_by(error: RefitError | OSError) -> State[Any]:
    """Return the state of a run that this error ended, with its line if a person can mend it.

    Raises the error if nobody can.
    """
    if (line := mendable(error)) is None:
        raise error
    return (Cancelled if isinstance(error, BusyError) else Failed)(message=line)


@contextmanager
def alone() -> Generator[None]:
    """Keep the project for this run, and end the last run that had it if its process could not.

    The last run is ended in Prefect.
    """
    with (lock := locks.Lock(WORK, run=str(flow_run.id), parent=flow_run.parent_flow_run_id or "")):
        warn(api.bury(lock.before))
        yield


def check(tasks: list[str] | None) -> Params:
    """Return params.yaml; raise ParamsError if it is wrong or lacks one of the tasks.

    It is called before a server is started, and in every run.
    """
    preflight.require_writable()
    params = settings.load()
    if unknown := sorted(set(tasks or ()) - set(params.tasks)):
        raise ParamsError(
            f"there is no task '{one_line(unknown[0])}'; have: {', '.join(params.tasks)}"
        )
    return params


def _carry_out(
    params: Params, keys: set[str], refresh: bool, force: bool, dry_run: bool
) -> State[Any]:
    warn(preflight.look(params, keys))
    dag = graph.ask(Path.cwd(), keys)
    if dry_run:
        return _told(dag, force)
    if not dag.changed and not refresh and not force:
        return Completed(
            name=NOTHING, message=f"nothing to do: none of {len(dag.waits)} stages changed"
        )
    store.ping()
    with Desk(params.flows.side_by_side).open() as desk:
        if refresh:
            with desk.borrowed() as dvc:
                update(dag, dvc, get_run_logger())
        states = _run(dag.waits, desk, params, ("",) if force else ("fetch@",) if refresh else ())
    try:
        warn(preflight.mend())
    except OSError as error:  # a full disk, for one; a stage has said more of it
        warn([f"dvc.lock was not copied: {error}"])
    return _ended(states, desk)


def warn(lines: list[str]) -> None:
    """Log each line as a warning."""
    for line in lines:
        get_run_logger().warning(one_line(line))


def _run(
    waits: dict[str, list[str]], desk: Desk, params: Params, forced: tuple[str, ...]
) -> dict[str, State[Any]]:
    """Run every stage as a task, as many side by side as params.yaml says; return how each ended.

    Stages whose name starts as in `forced` run in any case.
    """
    futures: dict[str, PrefectFuture[None]] = {}
    with ThreadPoolTaskRunner[Any](max_workers=params.flows.side_by_side) as threads:
        for address, before in waits.items():
            retries = params.flows.retries if address.partition("@")[0] in RETRIED else 0
            named = run_stage.with_options(
                task_run_name=address,
                retries=retries,
                retry_delay_seconds=params.flows.retry_seconds,
            )
            futures[address] = threads.submit(
                named,
                {"address": address, "desk": desk, "force": address.startswith(forced)},
                wait_for=[futures[name] for name in before],
            )
        wait(list(futures.values()))
    return {address: future.state for address, future in futures.items()}


def _ended(states: dict[str, State[Any]], desk: Desk) -> State[Any]:
    """Return the state of the flow, given the states of its stages."""
    bad = {address: state for address, state in states.items() if not state.is_completed()}
    if desk.stopped:
        message = (
            f"stopped by {signal.Signals(desk.stopped).name}; "
            "the same run again goes on where this one ended"
        )
        return (
            Cancelled(message=message)
            if api.is_cancelling(flow_run.id)
            else Crashed(message=message)
        )
    if bad:
        why = "; ".join(
            one_line(state.message, 300)
            for state in bad.values()
            if state.is_failed() and state.name != "NotReady"
        )
        return Failed(
            message=f"{len(bad)} of {len(states)} stages did not complete: {', '.join(bad)} ({why})"
        )
    if not desk.ran:
        return Completed(
            name=NOTHING, message=f"nothing to do: none of {len(states)} stages changed"
        )
    decided = {
        address.partition("@")[2]: _decision(address)
        for address in desk.ran
        if address.startswith("register@")
    }
    message = f"{len(desk.ran)} of {len(states)} stages ran; " + ", ".join(
        f"{key}: {outcome}" for key, outcome in decided.items()
    )
    return Completed(
        name=PROMOTED if "promote" in decided.values() else None, message=message.removesuffix("; ")
    )


def update(dag: graph.Dag, dvc: Dvc, log: Any) -> None:
    """Bring what `dvc import-url` and `dvc import` track up to date.

    Raises StageError if that is not there.
    """
    for imported in dag.imports:
        with _kept(dvc, log, imported):
            _said(dvc, log, "--wait-for-lock", "update", imported)


@contextmanager
def _kept(dvc: Dvc, log: Any, address: str) -> Generator[None]:
    """Bring back, if the block fails, what DVC took away before it asked a silent source."""
    try:
        yield
    except StageError:
        # it is logged; there was nothing to bring back, and the first reason is the one to report
        with suppress(StageError):
            _said(dvc, log, "--wait-for-lock", "checkout", address)
        raise


def _said(dvc: Dvc, log: Any, *arguments: str) -> bool:
    """Carry out an order and log each line; return whether a stage changed something.

    Raises StageError with the stage's own line.
    """
    last, changed, code = "", True, 1
    for line in dvc.order(*arguments):
        if isinstance(line, int):
            if line:
                raise StageError(f"{arguments[-1]}: {last or f'dvc ended with {line}'}", code)
            break
        log.info(one_line(line))
        if line.startswith(("refit: ", "ERROR: ")) and not last.startswith("refit: "):
            last = one_line(line)
        if match := re.search(r"exited with (\d+)$", line):
            code = int(match[1])
        changed &= "didn't change, skipping" not in line
    return changed


def _told(dag: graph.Dag, force: bool) -> State[Any]:
    """Log what would run and why, leave it as a table, and run nothing."""
    rows, runs = list[dict[str, str]](), set[str]()
    for address, befores in dag.waits.items():
        if force or address in dag.changed:
            what = "would run: " + ("it is forced" if force else _why(dag.changed[address]))
        elif behind := [name for name in befores if name in runs]:
            what = f"would run if {', '.join(behind)} writes other bytes"
        else:
            rows.append({"stage": address, "what": "did not change"})
            continue
        runs.add(address)
        rows.append({"stage": address, "what": what})
    for row in rows:
        get_run_logger().info(f"{row['stage']}: {row['what']}")
    create_table_artifact(rows, key="dry-run", description="What a run would do")
    return Completed(message=f"dry run: {len(runs)} of {len(rows)} stages would run, or may")


def _why(reasons: list[Any]) -> str:
    """Return DVC's own reasons on one line."""
    return one_line(
        "; ".join(str(reason) for reason in reasons).translate({ord(c): None for c in "{}'"}), 300
    )


def _decision(address: str) -> str:
    return receipts.read_json(Path("data/register", address.partition("@")[2], "decision.json"))[
        "outcome"
    ]


def once(tasks: list[str], run: Callable[[], State[Any]]) -> None:
    """Carry out a run from the command line, and exit.

    The exit code is 0 if the run completed, 3 if another runs, 143 if it was stopped, 2 for params,
    4 if Prefect's server does not answer, else 1.
    """
    runner.quiet()
    ours: dict[Any, Any] = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # ending them takes a second; api.bury needs none
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: max(
            SECONDS, get_current_settings().server.ephemeral.startup_timeout_seconds
        ),
    }
    with told():
        check(tasks)
        print(api.said(), file=sys.stderr, flush=True)
        try:
            with temporary_settings(ours):
                state = run()
        except httpx.HTTPError as error:
            raise UnreachableError(
                "Prefect's server went away and was not told how this run ended "
                f"({one_line(error, 200)}); what its stages did is kept, "
                "and the next run ends this one there and goes on"
            ) from None
    if not state.is_completed():
        print(f"refit: {one_line(state.message)}", file=sys.stderr)
        sys.exit(
            {StateType.CANCELLED: BusyError.exit_code, StateType.CRASHED: 143}.get(state.type, 1)
        )
    print(f"{state.name}: {one_line(state.message)}")


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
    once(
        options.tasks,
        lambda: pipeline(
            options.tasks or None,
            options.refresh,
            options.force,
            options.dry_run,
            return_state=True,
        ),
    )


if __name__ == "__main__":
    main()
