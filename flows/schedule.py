"""Serve the flows on the schedules of params.yaml, one run at a time.

It can also leave them to a work pool of Prefect's.
"""

import argparse
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import deploy, flow, serve
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from flows import api
from flows.pipeline import PROMOTED, pipeline
from flows.runs import WORK, check
from flows.watch import DUE, watch
from stages.contract import locks, runner
from stages.contract.errors import BusyError, ParamsError, told
from stages.contract.escape import one_line
from stages.params.flows import Flows

FLOWS = {"pipeline": pipeline, "watch": watch}
TOLD = ("Failed", "Crashed", PROMOTED, DUE)  # states of a run that `notify` reports
# Prefect fills these in
SUBJECT, BODY = (
    "{{ flow.name }}: {{ flow_run.state.name }}",
    "{{ flow_run.name }}: {{ flow_run.state.message }}",
)
ALONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def deployments(of: Flows, pool: bool) -> list[Any]:
    """Return a deployment of each flow; raises ParamsError if cron is no schedule."""
    made = list[Any]()
    for name, ours in FLOWS.items():
        schedules = _schedules(name, getattr(of, name).cron, of.timezone)
        source = flow.from_source(str(Path.cwd()), f"flows/{name}.py:{name}") if pool else ours
        made.append(
            source.to_deployment(  # pyright: ignore[reportAttributeAccessIssue]
                name,
                schedules=schedules,
                parameters={"refresh": of.pipeline.refresh} if name == "pipeline" else {},
                concurrency_limit=ALONE,
                entrypoint_type=EntrypointType.FILE_PATH if pool else EntrypointType.MODULE_PATH,
            )
        )
    return made


def _schedules(name: str, cron: str | None, timezone: str) -> list[Any]:
    try:
        return [Cron(cron, timezone=timezone)] if cron else []
    except ValueError as error:
        raise ParamsError(
            f"params.yaml: flows.{name}.cron: '{one_line(cron, 80)}' is no schedule "
            f"({_first(error)}); say five fields, such as 0 3 * * *"
        ) from None


def notify(block: str | None) -> None:
    """Let Prefect send failures, champions and what is due to one of its blocks.

    Raises ParamsError if there is no block of this name.
    """
    name = f"refit {Path.cwd().name}"
    with get_client(sync_client=True) as client:
        for held in client.read_automations_by_name(name):
            client.delete_automation(held.id)
        if block is None:
            return
        action = SendNotification(
            block_document_id=_document(client, block), subject=SUBJECT, body=BODY
        )
        client.create_automation(AutomationCore(name=name, trigger=_trigger(), actions=[action]))


def _document(client: SyncPrefectClient, block: str) -> UUID:
    """Return the id of a block, which is named KIND/NAME."""
    kind, _, name = block.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound:
        raise ParamsError(
            f"params.yaml: flows.notify: Prefect has no block '{block}'; "
            f"make one (`prefect block create {kind}`), or say null"
        ) from None


def _trigger() -> EventTrigger:
    """Return what Prefect waits for: that a run of one of the flows is in a state of TOLD."""
    return EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in TOLD},
        match={  # pyright: ignore[reportArgumentType]
            "prefect.resource.id": "prefect.flow-run.*",
        },
        match_related={  # pyright: ignore[reportArgumentType]
            "prefect.resource.role": "flow",
            "prefect.resource.name": [ours.name for ours in FLOWS.values()],
        },
        posture=Posture.Reactive,
        threshold=1,
    )


def require_pool(name: str) -> None:
    """Make a work pool of processes unless there is a pool of this name.

    `prefect work-pool create` would ask GitHub for the kinds of pools.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(
                WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
            )


def _first(error: Exception) -> str:
    return one_line(error.errors()[0]["msg"] if isinstance(error, ValidationError) else error, 200)


def main() -> None:
    """Serve until stopped, or leave the deployments to a work pool.

    What the user can mend ends as one line and an exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m flows.schedule",
        description="Serve the flows on the schedules of params.yaml.",
    )
    parser.add_argument(
        "--pool", help="leave them to this work pool instead; a worker there runs them"
    )
    pool: str | None = parser.parse_args().pool
    runner.quiet()
    with told():
        _offer(check(None).flows, pool)


def _offer(of: Flows, pool: str | None) -> None:
    """Serve the flows here until stopped, or leave them to a work pool."""
    made = deployments(of, bool(pool))
    print(api.said(required=True), flush=True)
    _bury()
    notify(of.notify)
    for name in FLOWS:
        when = getattr(of, name).cron or "when it is asked for"
        print(f"{name}: {when} ({of.timezone})", flush=True)
    if pool:
        require_pool(pool)
        deploy(*made, work_pool_name=pool, build=False, push=False)
    else:
        serve(*made, print_starting_message=False)


def _bury() -> None:
    """End in Prefect the run that last had the project, unless a run has it now."""
    try:
        with (lock := locks.Lock(WORK)):
            for line in api.bury(lock.before):
                print(line)
    except BusyError as error:
        print(f"{error.args[0].partition(';')[0]}: a run on schedule is cancelled while it does")


if __name__ == "__main__":
    main()
