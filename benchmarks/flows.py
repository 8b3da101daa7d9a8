"""Measure the flows: the cost of orchestration, what a kill loses, and who may run beside whom.

Each measurement runs a small real project (240 texts, a tiny BERT) in a folder of its own, with
servers of its own: `overhead | idle | kill | store | beside | sides | all [--tries N] [--seed N]`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stages.commands.status import STAGES
from stages.contract import receipts, runner
from tests.conftest import Project, block, make_project, write_base

FLOW = (sys.executable, "-m", "flows.pipeline")
KINDS = ("stage", "dvc", "flow", "group")  # what is killed
SAME = (
    "finetune/{}/model/model.safetensors",
    "finetune/{}/metrics.json",
    "evaluate/{}/metrics.json",
    "evaluate/{}/predictions.parquet",
)
RUNS = """
import json
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
with get_client(sync_client=True) as client:
    found = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=200)
print(json.dumps([{"name": of.name, "state": of.state.name, "type": of.state.type.value, \
"why": of.state.message,
                   "seconds": of.total_run_time.total_seconds()} for of in found \
if of.start_time or of.state.is_final()]))
"""


def made(folder: Path, *tasks: str, threads: int = 1, side_by_side: int = 2) -> Project:
    """Make a project with these tasks, in which nothing has run."""
    of = {task: block() for task in tasks or ("tiny",)}
    for task in of.values():
        task["compute"]["threads"] = threads
    project = make_project(folder, write_base(folder.parent / f"{folder.name}_base"), of)
    project.params(lambda document: document["flows"].update(side_by_side=side_by_side))
    return project


@contextmanager
def served(project: Project) -> Generator[dict[str, str]]:
    """Start servers for a project as `make up` does.

    Yields what another folder needs to use its Prefect server.
    """
    ports = [free_port() for _ in range(2)]
    project.run(
        sys.executable, "-m", "flows.servers", "up", f"mlflow={ports[0]}", f"prefect={ports[1]}"
    )
    try:
        yield seen_at(project)
    finally:
        project.run(sys.executable, "-m", "flows.servers", "down")


def seen_at(project: Project) -> dict[str, str]:
    """Return what another folder needs to use the Prefect server of a project."""
    told = tomllib.loads((project.root / "prefect.toml").read_text())["api"]
    return {"PREFECT_API_URL": told["url"], "PREFECT_API_AUTH_STRING": told["auth_string"]}


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def runs(project: Project, **environment: str) -> list[dict[str, Any]]:
    """Return the flow runs of a project's server, the last one first."""
    return json.loads(project.run(sys.executable, "-c", RUNS, **environment).stdout)


def overhead(folder: Path, tries: int) -> dict[str, Any]:
    """Compare a forced run of one task by `dvc repro` with one as a flow, in turn.

    What counts is what each takes beyond the stages' own processes.
    """
    project = made(folder / "project", side_by_side=1)
    project.repro()
    alone, flow, command = list[float](), list[float](), list[float]()
    with served(project):
        for _ in range(tries):
            alone.append(seconds(lambda: project.repro("--force")) - own(project))
            command.append(seconds(lambda: project.run(*FLOW, "--force")) - own(project))
            flow.append(runs(project)[0]["seconds"] - own(project))
    added = [b - a for a, b in zip(alone, flow, strict=True)]
    limit = 1.5 + 0.3 * len(STAGES)
    found = {
        "dvc repro": alone,
        "flow run": flow,
        "its command": command,
        "added": added,
        "median": statistics.median(added),
    }
    return found | {"at most": limit, "kept": statistics.median(added) <= limit}


def own(project: Project, task: str = "tiny") -> float:
    """Return the seconds that a task's stages took in their last run, from start to end of work."""
    timings = [
        json.loads((project.root / "data" / stage / task / "timing.json").read_text())
        for stage in STAGES
    ]
    return sum(timing["seconds_before_work"] + timing["seconds_of_work"] for timing in timings)


def idle(folder: Path, tries: int) -> dict[str, Any]:
    """Measure the seconds of a flow over two tasks in which nothing changed."""
    project = made(folder / "project", "tiny", "other")
    project.repro()
    with served(project):
        whole = [seconds(lambda: project.run(*FLOW)) for _ in range(tries)]
        found = runs(project)
    assert all(of["state"] == "NothingToDo" for of in found)
    flow = [of["seconds"] for of in found]
    return {"flow run": flow, "its command": whole, "at most": 4, "kept": max(flow) <= 4}


@dataclass(frozen=True)
class Killed:
    """The result of one kill.

    `moment` is a share of an unbroken run, `hit` says whether the kill came in time, and `wrong`
    lists what was wrong after the same command ran again.
    """

    what: str
    moment: float
    hit: bool
    wrong: list[str]


def kill(folder: Path, tries: int, seed: int = 7) -> dict[str, Any]:
    """Kill a run at random moments, give the same command again, and compare with an unbroken run.

    A kill that comes after the end of the run does not count, and another moment is drawn.
    """
    fresh = made(folder / "fresh")
    unbroken = fresh.copy(folder / "unbroken")
    with served(unbroken) as environment:
        took = seconds(lambda: unbroken.run(*FLOW))
        wanted, draw = outputs(unbroken), random.Random(seed)
        found = list[Killed]()
        while len(found) < tries:
            kind = KINDS[len(found) % len(KINDS)]
            one = killed(
                fresh.copy(folder / "try"),
                kind,
                draw.uniform(0.02, 0.98),
                took,
                wanted,
                environment,
            )
            found += [one] if one.hit else []
            shutil.rmtree(folder / "try")
    bad = [vars(of) for of in found if of.wrong]
    return {
        "unbroken seconds": took,
        "tries": [f"{of.what} at {of.moment:.2f}" for of in found],
        "good": len(found) - len(bad),
        "of": tries,
        "bad": bad,
    }


def killed(
    project: Project,
    what: str,
    moment: float,
    took: float,
    wanted: dict[str, str],
    environment: dict[str, str],
) -> Killed:
    """Kill one run at a moment, then give the same command again."""
    wrong = list[str]()
    process = subprocess.Popen(
        FLOW,
        cwd=project.root,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(moment * took)
    hit = strike(process, what)
    process.wait()
    until = time.monotonic() + 5
    while (orphans := below(project)) and time.monotonic() < until:
        time.sleep(0.1)
    wrong += [f"alive after 5 s: {orphan}" for orphan in orphans]
    again = project.run(*FLOW, ok=False, **environment)
    if again.returncode:
        wrong.append(f"the same command again ended with {again.returncode}: {again.stderr[-500:]}")
    elif outputs(project) != wanted:
        wrong.append(
            f"differs: {[name for name, of in outputs(project).items() if wanted[name] != of]}"
        )
    if (numbers := versions(project)) != [1]:
        wrong.append(f"versions: {numbers}")
    if any(of["type"] == "RUNNING" for of in runs(project, **environment)):
        wrong.append("a run is still said to be running")
    return Killed(what, moment, hit, wrong)


def strike(process: "subprocess.Popen[bytes]", what: str) -> bool:
    """Kill what is named of a running flow; return whether the flow was still running.

    For a stage or DVC, wait until there is one.
    """
    if what in ("flow", "group"):
        if there := process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if what == "group" else process.kill()
        return there
    module = "stages." if what == "stage" else "flows.reproduce"
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if any(word.startswith(module) for word in child.cmdline()):
                    child.kill()
                    return True
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.01)
    return False


def below(project: Project) -> list[str]:
    """Return the processes that work in a project's folder, without its servers."""
    found = list[str]()
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if (
                process.cwd() == str(project.root)
                and "server" not in command
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(command)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def outputs(project: Project, task: str = "tiny") -> dict[str, str]:
    """Return the sha256 of weights, metrics and predictions."""
    return receipts.files(project.root / "data", [name.format(task) for name in SAME])


def versions(project: Project, task: str = "tiny") -> list[int]:
    """Return the numbers of a model's versions."""
    code = (
        "from stages.registry import registered; "
        f"print([of.number for of in registered.versions({task!r})])"
    )
    return json.loads(project.run(sys.executable, "-c", code).stdout.splitlines()[-1])


def store(folder: Path, tries: int) -> dict[str, Any]:
    """Let four processes use a missing MLflow store, and four flows a missing Prefect home.

    The processes, and the flows, start at the same time.
    """
    fresh = made(folder / "fresh")
    fresh.repro()
    ask = (
        sys.executable,
        "-c",
        "from stages.registry import registered; print(registered.champion('nobody'))",
    )
    asked, flows = list[int](), list[int]()
    for i in range(tries):
        empty = fresh.copy(folder / f"empty{i}").forget("register")
        asked += at_once([empty] * 4, ask, {})
    for i in range(max(1, tries // 10)):
        copies = [fresh.copy(folder / f"flows{i}_{j}") for j in range(4)]
        flows += at_once(copies, FLOW, {"PREFECT_HOME": str(folder / f"home{i}")})
    return {
        "MLflow": f"{asked.count(0)} of {len(asked)}",
        "Prefect": f"{flows.count(0)} of {len(flows)}",
        "kept": not any(asked + flows),
    }


def at_once(
    projects: list[Project], command: tuple[str, ...], environment: dict[str, str]
) -> list[int]:
    """Start a command in each project at the same time and return their exit codes."""
    started = [
        subprocess.Popen(
            command,
            cwd=of.root,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for of in projects
    ]
    codes = list[int]()
    for process in started:
        _, said = process.communicate()
        codes.append(process.returncode)
        if process.returncode:
            print(said.decode()[-1500:], file=sys.stderr)
    return codes


def beside(folder: Path) -> dict[str, Any]:
    """Start a run of a deployment beside a running one, and another by hand.

    Both must be cancelled with a reason, and the first run must be unharmed.
    """
    project = made(folder / "project")
    with served(project):
        schedule = subprocess.Popen(
            (sys.executable, "-m", "flows.schedule"),
            cwd=project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert schedule.stdout
            next(line for line in schedule.stdout if line.startswith("watch: "))
            run = (
                str(Path(sys.executable).with_name("prefect")),
                "deployment",
                "run",
                "refit/pipeline",
            )
            time.sleep(5)
            project.run(*run)
            while not any(of["type"] == "RUNNING" for of in runs(project)):
                time.sleep(1)
            project.run(*run)
            by_hand = project.run(*FLOW, ok=False)
            while any(of["type"] in ("RUNNING", "PENDING") for of in runs(project)):
                time.sleep(2)
        finally:
            schedule.terminate()
            schedule.wait()
        found = [f"{of['state']}: {of['why']}" for of in runs(project)]
    kept = (
        sorted(of.split(":")[0] for of in found) == ["Cancelled", "Cancelled", "Promoted"]
        and by_hand.returncode == 3
    )
    return {"runs": found, "by hand": by_hand.stderr.strip().splitlines()[-1], "kept": kept}


def sides(folder: Path, tries: int) -> dict[str, Any]:
    """Compare two tasks side by side with the same ones in turn, with one and two threads each."""
    found = dict[str, Any]()
    for threads in (1, 2):
        project = made(folder / f"threads{threads}", "tiny", "other", threads=threads)
        project.repro()
        ratios, weights = list[float](), [outputs(project, task) for task in ("tiny", "other")]
        with served(project):
            for _ in range(tries):
                took = dict[int, float]()
                for number in (1, 2):
                    project.params(
                        lambda document, number=number: document["flows"].update(
                            side_by_side=number
                        )
                    )
                    project.run(*FLOW, "--force")
                    took[number] = runs(project)[0]["seconds"]
                ratios.append(took[2] / took[1])
        same = [outputs(project, task) for task in ("tiny", "other")] == weights
        found[f"{threads} threads"] = {
            "ratios": ratios,
            "same weights": same,
            "kept": same and statistics.median(ratios) <= 1.05,
        }
    return found


def seconds(run: Any) -> float:
    """Return the seconds that a call takes."""
    began = time.monotonic()
    run()
    return time.monotonic() - began


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", choices=("overhead", "idle", "kill", "store", "beside", "sides", "all")
    )
    parser.add_argument("--tries", type=int)
    parser.add_argument("--seed", type=int, default=7)
    of = parser.parse_args()
    runner.quiet()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    measures = {
        "overhead": lambda folder: overhead(folder, of.tries or 3),
        "idle": lambda folder: idle(folder, of.tries or 5),
        "kill": lambda folder: kill(folder, of.tries or 20, of.seed),
        "store": lambda folder: store(folder, of.tries or 10),
        "beside": lambda folder: beside(folder),
        "sides": lambda folder: sides(folder, of.tries or 2),
    }
    for name in measures if of.what == "all" else [of.what]:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({name: measures[name](Path(folder))}, indent=1), flush=True)


if __name__ == "__main__":
    main()
