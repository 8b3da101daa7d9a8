"""Ask Prefect's server whether it is there, and end a run whose process is gone."""

import contextlib
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Crashed

from stages.contract import locks
from stages.contract.errors import UnreachableError
from stages.contract.escape import one_line, redact

SECONDS = 5.0


def said(required: bool = False) -> str:
    """Return where runs will be seen.

    Raises UnreachableError within seconds if the server that was named does not answer, or if one
    is required and none is named.
    """
    if not (address := get_current_settings().api.url):
        if required:
            raise UnreachableError(
                "no Prefect server is named, and schedules live in one; "
                "start it (`make up`), or set PREFECT_API_URL"
            )
        return (
            "refit: no Prefect server is named; this run gets one of its own for its time "
            "(`make up` starts one that stays)"
        )
    if error := _error(address):
        raise UnreachableError(
            f"PREFECT_API_URL: {redact(address)} does not answer within {SECONDS:g} s "
            f"({redact(one_line(error, 200))}); start it (`make up`), "
            "or unset it and remove prefect.toml (`make down`) to run without one"
        )
    return f"refit: runs are seen at {redact(address.removesuffix('/api'))}"


def is_there() -> bool:
    """Return whether the server of this run answers within seconds.

    A server of the run's own always does.
    """
    address = get_current_settings().api.url
    return not address or _error(address) is None


def _error(address: str) -> Exception | None:
    try:
        httpx.get(f"{address}/health", timeout=SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return error
    return None


def is_cancelling(run: str) -> bool:
    """Return whether somebody asked Prefect to cancel this run.

    Prefect's server then takes no other end of it.
    """
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run)).state
    return state is not None and state.is_cancelling()


def name(run: str, what: str) -> None:
    """Give a run of a flow another name."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(run), name=one_line(what, 200))


def bury(before: dict[str, Any]) -> list[str]:
    """End the run that last had the project's lock, and the run that had started it.

    Do neither if their process did it or still can. Returns a line for each run that was ended. A
    process lets go of the lock before it tells Prefect how its run ended.
    """
    runs = [run for run in (before.get("run"), before.get("parent")) if run]
    if not runs or locks.lives(before):
        return []
    said, process = list[str](), f"its process {before['pid']} on {before['host']}"
    with get_client(sync_client=True) as client:
        for run in runs:
            # the run can be of another server, or of one that lived only as long as its run
            with contextlib.suppress(ObjectNotFound):
                why = f"{process} is gone; the next run goes on where it ended"
                said += _end(client, UUID(run), why)
    return said


def _end(client: SyncPrefectClient, run: UUID, why: str) -> list[str]:
    """End a run and its tasks as crashed unless the run has ended."""
    flow_run, state = client.read_flow_run(run), Crashed(message=one_line(why, 300))
    if flow_run.state and flow_run.state.is_final():
        return []
    client.set_flow_run_state(flow_run.id, state)
    for task in client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    ):
        if task.state and not task.state.is_final():
            client.set_task_run_state(task.id, state)
    return [f"run {flow_run.name}: {state.message}"]
