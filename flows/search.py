"""Search as a Prefect flow the way in which a task learns best."""

import argparse
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import api
from flows.runs import alone, check, ended_by, once
from stages.commands import search as command
from stages.contract import runner
from stages.contract.errors import RefitError
from stages.contract.escape import one_line


@task(cache_policy=NO_CACHE, persist_result=False)
def search_task(name: str, minutes: float, trials: int, write: bool) -> command.Found:
    """Search for one task, and log each trial."""
    found = command.search(name, minutes, trials, write)
    for line in command.told(found):
        get_run_logger().info(one_line(line))
    return found


@flow(name="refit-search", flow_run_name="search {tasks}", persist_result=False)
def search(
    tasks: list[str], minutes: float = 10.0, trials: int = 30, write: bool = True
) -> State[Any]:
    """Search for each task, one after another, and write what is chosen into params.yaml."""
    try:
        runner.quiet()
        check(tasks)
        with alone():
            found = [
                search_task.with_options(task_run_name=f"search@{name}")(
                    name, minutes, trials, write
                )
                for name in tasks
            ]
    except (RefitError, OSError) as error:
        return ended_by(error)
    if api.is_there():
        for one in found:
            rows = [{"trial": line} for line in command.told(one)]
            create_table_artifact(rows, key="search", description=f"What was tried for {one.task}")
    chosen = "; ".join(f"{one.task}: {one.chosen.way}" for one in found)
    return Completed(message=f"chosen: {chosen}")


def main() -> None:
    """Run the flow once, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.search", description="Search the way in which tasks learn best."
    )
    parser.add_argument("tasks", nargs="+", help="tasks of params.yaml that split has run for")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for each task")
    parser.add_argument("--trials", type=int, default=30, help="at most so many")
    parser.add_argument("--dry-run", action="store_true", help="leave params.yaml as it is")
    given = parser.parse_args()
    asked = given.tasks, given.minutes, given.trials, not given.dry_run
    once(given.tasks, lambda: search(*asked, return_state=True))


if __name__ == "__main__":
    main()
