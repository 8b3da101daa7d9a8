"""Runs the DAG once as a Prefect flow: each DVC stage is a task, started when those that it waits for are done.

DVC stays the one place where the DAG is written and where it is decided that nothing changed.
"""

import subprocess
import sys
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import graph
from stages.contract import settings
from stages.contract.errors import ParamsError, RefitError
from stages.contract.escape import one_line

SIDE_BY_SIDE = 2  # stages of independent tasks; each fine-tunes with its own threads


class StageError(RuntimeError):
    """A stage's command failed; its own line says why."""


@task(cache_policy=NO_CACHE, persist_result=False)
def run_stage(address: str) -> str:
    """Reproduce one DVC stage; its output goes line by line into the Prefect log."""
    log = get_run_logger()
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", address]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        for line in process.stdout or ():
            if line.strip():
                log.info(line.rstrip())
            if line.startswith("refit: "):
                last = line.strip()
    if process.returncode:
        raise StageError(f"{address}: {last or f'dvc exited with {process.returncode}'}")
    return address


@flow(name="refit", task_runner=ThreadPoolTaskRunner(max_workers=SIDE_BY_SIDE), persist_result=False)  # pyright: ignore
def pipeline(tasks: list[str] | None = None) -> State[None] | None:
    """Run the stages of all tasks, or of those named (ParamsError if there is none such); the failure of one stops only what waits for it."""
    check(tasks)
    futures: dict[str, PrefectFuture[str]] = {}
    for address, before in graph.stages(Path.cwd(), set(tasks) if tasks else None).items():
        named = run_stage.with_options(task_run_name=address)
        futures[address] = named.submit(address, wait_for=[futures[name] for name in before])  # pyright: ignore[reportCallIssue]
    wait(list(futures.values()))
    bad = [address for address, future in futures.items() if not future.state.is_completed()]
    return Failed(message=f"{len(bad)} of {len(futures)} stages did not complete: {', '.join(bad)}") if bad else None


def check(tasks: list[str] | None) -> None:
    """Raise ParamsError if params.yaml is wrong or has no such task: before a server is started, and in every run."""
    known = settings.load().tasks
    if unknown := sorted(set(tasks or ()) - set(known)):
        raise ParamsError(f"there is no task '{one_line(unknown[0])}'; have: {', '.join(known)}")


def main() -> None:
    """Run the flow for the tasks named on the command line, or for all; exit with 1 if a stage failed."""
    tasks = sys.argv[1:] or None
    try:
        check(tasks)
        state: State[None] = pipeline(tasks, return_state=True)  # pyright: ignore[reportCallIssue]
    except RefitError as error:
        print(f"refit: {one_line(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    if not state.is_completed():
        sys.exit(f"refit: {one_line(state.message)}")


if __name__ == "__main__":
    main()
