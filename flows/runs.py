"""Begin a run of a flow, keep the project for it alone, and say how it ended."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Failed

from flows import api
from stages.contract import locks, runner, settings
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
# for a server of a run's own to start: Prefect's 20 are too few on a busy machine with a new
# Prefect home
SECONDS = 240
CODES = {StateType.CANCELLED: BusyError.exit_code, StateType.CRASHED: 143}


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


def warn(lines: list[str]) -> None:
    """Log each line as a warning."""
    for line in lines:
        get_run_logger().warning(one_line(line))


def once(tasks: list[str], run: Callable[[], State[Any]]) -> None:
    """Carry out a run from the command line, and exit.

    The exit code is 0 if the run completed, 3 if another runs, 143 if it was stopped, 2 for params,
    4 if Prefect's server does not answer, else 1.
    """
    runner.quiet()
    patience = max(SECONDS, get_current_settings().server.ephemeral.startup_timeout_seconds)
    ours: dict[Any, Any] = {
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # ending them takes a second; api.bury needs none
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: patience,
    }
    with told():
        check(tasks)
        print(api.said(), file=sys.stderr, flush=True)
        try:
            with temporary_settings(ours):
                state = run()
        except httpx.HTTPError as error:
            raise UnreachableError(
                "Prefect's server went away and did not learn how this run ended "
                f"({one_line(error, 200)}); what its stages did is kept, "
                "and the next run ends this one there and goes on"
            ) from None
    _end(state)


def _end(state: State[Any]) -> None:
    """Say how a run ended, and exit unless it completed."""
    if not state.is_completed():
        print(f"refit: {one_line(state.message)}", file=sys.stderr)
        sys.exit(CODES.get(state.type, 1))
    print(f"{state.name}: {one_line(state.message)}")
