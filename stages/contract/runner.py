"""Run one stage so that it is alone, dies with its parent, and leaves whole outputs or none.

Measured with DVC 3.67: after `kill -9` of `dvc repro` the stage lives on, and a second run mixes
the outputs of both.
"""

import errno
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from stages.contract import (
    collecting,
    escape,
    location,
    locks,
    receipts,
    settings,
    stopping,
    store,
    tracked,
    walk,
)
from stages.contract.errors import ParamsError, ReceiptError, RefitError, told
from stages.contract.escape import extract, one_line

# Telemetry and hub look-ups are off unless the user turns them on. A thread of GNU OpenMP waits for
# its next piece of work by spinning for a few microseconds, and then sleeps: spinning for longer
# takes the core from others, and a thread that sleeps immediately is woken up a hundred times a
# step. MiniLM, 32 texts of 10 tokens, two threads on two cores, ms a step with 0, 1,000 and 100,000
# turns of spinning: alone 231, 211 and 215; two such trainings side by side 375, 390 and 4,390;
# beside two busy processes 450, 535 and 4,400. Set these before any heavy import.
QUIET = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "DO_NOT_TRACK": "1",
    "GOMP_SPINCOUNT": "1000",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": "4",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
}
# Bytes: a disk with less room counts as full; torch's error for it is "unexpected pos 64 vs 0".
FULL = 2**20
RESUMABLE, REFUSED = "checkpoints", "refused"  # below a stage's work
NEEDS_TRACKING = {"finetune", "register"}  # before hours of training, not after
RECORDED = ("albumentations", "cleanlab", "great-expectations", "huggingface-hub", "mlflow",
            "nlpaug", "numpy", "pandas", "peft", "pyarrow", "scikit-learn", "tokenizers", "torch",
            "transformers")  # fmt: skip


# A stage: (job, each section of params.yaml that it reads, by name) -> a line for who watches.
Story = Callable[..., str]


@dataclass(frozen=True)
class Job:
    """Where one run of a stage reads and writes."""

    stage: str
    key: str
    out: Path
    work: Path
    taken: dict[str, str] = field(default_factory=dict[str, str])
    handed: list[str] = field(default_factory=list[str])
    facts: dict[str, str] = field(default_factory=dict[str, str])
    cost: dict[str, Any] = field(default_factory=dict[str, Any])
    params: dict[str, Any] = field(default_factory=dict[str, Any])

    def take(self, stage: str, name: str) -> Path:
        """Return a file or folder that an earlier stage of this task handed on, verified."""
        folder = Path("data", stage, self.key)
        if not (folder / "receipt.json").is_file():
            raise ReceiptError(
                f"{folder}/receipt.json: is not there; run `dvc repro {stage}@{self.key}` first"
            )
        signed = receipts.verify(folder, receipts.read_json(folder / "receipt.json"), name)
        self.taken.update({f"{folder}/{k}": v for k, v in signed.items()})
        return folder / name

    def raw(self, source: str) -> tuple[Path, str]:
        """Return the folder of a source and one sha256 for it.

        The folder is verified against what fetch wrote, or what DVC tracks.
        """
        folder = Path("data/raw", source)
        walk.require_whole(folder)
        tracked.require(folder)
        hashes, stated = receipts.files(folder, ["."]), folder / "source.json"
        if Path("data/fetch", source).is_dir():
            receipts.match(
                folder,
                receipts.read_json(stated)["files"]
                | {"source.json": hashes.get("source.json", "")},
                hashes,
            )
        self.taken.update({f"{folder}/{k}": v for k, v in hashes.items()})
        return folder, receipts.digest(hashes)

    def unsigned(self, stage: str, name: str) -> Path:
        """Return a file or folder that an earlier stage of this task wrote but did not hand on.

        No receipt signs it.
        """
        return Path("data", stage, self.key, name)

    def provenance(self, stage: str) -> Any:
        """Return what an earlier stage of this task was made from."""
        return receipts.read_json(self.unsigned(stage, "provenance.json"))

    def hand_on(self, name: str) -> Path:
        """Return where to write an output that a later stage reads; the receipt will sign it."""
        self.handed.append(name)
        return self.out / name

    def resumable(self) -> Path:
        """Return a folder that outlives a kill, for a later run of the same to find again.

        Only a run with equal inputs, params, versions, facts and code finds it. Call it after every
        input was taken. It removes what other runs left; the folder itself is removed once the
        outputs are published.
        """
        same = receipts.digest([self.taken, self.params, _versions(), self.facts, _code()])
        folder = self.work / RESUMABLE / same
        for other in folder.parent.glob("*"):
            if other != folder:
                shutil.rmtree(other)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def run(story: Story) -> None:
    """Run a stage's story for the key on the command line, or in DVC_STAGE, and exit.

    A RefitError becomes one line and its exit code, and so does a signal.
    """
    collecting.seldom()
    stopping.at_once()
    stage = story.__name__
    quiet(hub=stage == "fetch")
    escape.to_streams()
    try:
        with told():
            stopping.with_parent()
            key = _key(stage)
            with locks.Lock(Path("data/.work", stage, key)) as work:
                line = _carry_out(story, stage, key, work)
            print(one_line(f"{stage} {key}: {line}"), flush=True)
    except stopping.Stopped as stopped:
        print(f"refit: {stopped.line}", file=sys.stderr, flush=True)
        raise


def quiet(hub: bool = False) -> None:
    """Set the variables of QUIET that the user has not set; only fetch may ask a hub.

    Call it before any heavy import.
    """
    location.settle()
    for name, value in QUIET.items():
        if not (hub and name == "HF_HUB_OFFLINE"):
            os.environ.setdefault(name, value)
    if not sys.stderr.isatty():  # a bar is for a terminal
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def _carry_out(story: Story, stage: str, key: str, work: Path) -> str:
    params = settings.load()
    block = (params.sources if stage == "fetch" else params.tasks).get(key)
    if block is None:
        raise ParamsError(
            f"params.yaml: there is no {'source' if stage == 'fetch' else 'task'} '{key}'"
        )
    if stage in NEEDS_TRACKING:
        store.require_recordable(key)
    sections = {
        name: getattr(block, name) for name in list(inspect.signature(story).parameters)[1:]
    }
    job = Job(stage, key, work / f"out-{os.getpid()}", work, params=_plain(sections))
    for stale in [work / REFUSED, *work.glob("out-*")]:
        shutil.rmtree(stale, ignore_errors=True)
    job.out.mkdir(parents=True)
    began = time.time()
    try:
        line = story(job, **sections)
        _publish(job, began)
    except BaseException as error:
        if clearer := _put_aside(job, error):
            raise clearer from error
        raise
    shutil.rmtree(work / RESUMABLE, ignore_errors=True)
    return line


def _plain(sections: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of params.yaml as JSON has them."""
    plain = {
        name: asdict(value) if hasattr(value, "__dataclass_fields__") else value
        for name, value in sections.items()
    }
    return json.loads(json.dumps(plain))


def _put_aside(job: Job, error: BaseException) -> Exception | None:
    """Remove what was half made, but keep what a RefitError tells of.

    Return the error that says more than this one, if there is one.
    """
    refused = job.work / REFUSED
    if isinstance(error, RefitError) and any(job.out.iterdir()):
        job.out.rename(refused)
        return type(error)(f"{error}; what was found is in {refused}/")
    full = (
        isinstance(error, Exception)
        and not isinstance(error, RefitError)
        and shutil.disk_usage(job.work).free < FULL
    )
    shutil.rmtree(job.out, ignore_errors=True)
    if full:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.work.resolve()))
    return None


def _publish(job: Job, began: float) -> None:
    """Write receipt, provenance and timing, then rename the whole folder into its place."""
    records, target = Path("data", job.stage, job.key), Path("data", job.stage, job.key)
    if job.stage == "fetch":  # a source is one folder, and seconds must not change its hash
        target = Path("data/raw", job.key)
        records.mkdir(parents=True, exist_ok=True)
    if job.handed:
        receipts.write_json(job.out / "receipt.json", receipts.files(job.out, job.handed))
    _write_records(job, records if job.stage == "fetch" else job.out, began)
    for path in [*job.out.rglob("*"), job.out]:
        receipts.flush(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    job.out.rename(target)
    receipts.flush(target.parent)


def _write_records(job: Job, into: Path, began: float) -> None:
    """Write what the outputs were made from, and what that took."""
    receipts.write_json(into / "provenance.json", {
        "stage": job.stage,
        "task": job.key,
        "inputs": job.taken,
        "facts": job.facts,
        "params": job.params,
        "versions": _versions(),
    })  # fmt: skip
    me, now = psutil.Process(), time.time()
    receipts.write_json(into / "timing.json", {
        "seconds_before_work": round(began - me.create_time(), 3),
        "seconds_of_work": round(now - began, 3),
        "peak_memory_mib": round(peak_memory_mib()),
        **job.cost,
    })  # fmt: skip


def _versions() -> dict[str, str]:
    return {"python": sys.version.split()[0]} | {
        name: importlib.metadata.version(name) for name in RECORDED
    }


def _code() -> dict[str, str]:
    """Return the sha256 of each file of ours that is loaded."""
    package = Path(__file__).parents[1]
    ours = [
        module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in (package.name, "__main__")
    ]
    loaded = {Path(file) for module in ours if (file := getattr(module, "__file__", None))}
    return {
        path.relative_to(package).as_posix(): receipts.sha256(path)
        for path in loaded
        if path.is_relative_to(package)
    }


def _key(stage: str) -> str:
    """Return the key on the command line or, without one, the key of the stage that DVC runs."""
    given = [f"{stage}@{key}" for key in sys.argv[1:]] or [os.environ.get("DVC_STAGE", "")]
    # If DVC was started in another folder, it puts that folder before the name.
    named = (
        re.fullmatch(rf"(?:[^:]*dvc\.yaml:)?{stage}@([a-z0-9_]+)", given[0])
        if len(given) == 1
        else None
    )
    if named is None:
        shown = (
            ""
            if sys.argv[1:] or not given[0]
            else f"DVC_STAGE: {extract(given[0])} is none of this stage; "
        )
        raise ParamsError(
            f"{shown}usage: python -m stages.{stage} KEY, where KEY is made of a-z, 0-9 and _; "
            f"or `dvc repro {stage}@KEY`"
        )
    return named[1]


def peak_memory_mib() -> float:
    """Return the most memory that this process has used.

    Linux tells it apart from the memory of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M)[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
