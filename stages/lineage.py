"""Says what a model was made from: the commit, the data as DVC hashed it, and this task's part of dvc.lock."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract import receipts
from stages.contract.errors import ReceiptError
from stages.contract.settings import read_yaml

MAX_BYTES = 50_000_000  # of dvc.lock: about 30 kB a task
TIMED = ("/timing.json", "/report.html")
UPSTREAM = ("validate", "augment", "split", "finetune", "evaluate")


@dataclass(frozen=True)
class Lineage:
    """`lock` is the excerpt of dvc.lock, `split` its entry of the stage split, `data` DVC's hash of the raw data set, `commit` the code's (or 'no commit')."""

    lock: dict[str, Any]
    split: dict[str, Any]
    lock_sha256: str
    data: str
    commit: str


def read(task: str, data: str, base: str) -> Lineage:
    """Read the lineage of a task's candidate from dvc.lock and git; raises ReceiptError where a stage has no entry."""
    stages = (read_yaml(Path("dvc.lock"), MAX_BYTES) or {}).get("stages", {}) if Path("dvc.lock").exists() else {}
    wanted = [f"{stage}@{task}" for stage in UPSTREAM]
    lacking = [name for name in wanted if name not in stages]
    if lacking:
        raise ReceiptError(f"dvc.lock: has no entry of {', '.join(lacking)}; run `dvc repro register@{task}`, which runs them first")
    fetched = [name for name in (f"fetch@{data}", f"fetch@{base}") if name in stages]
    lock = {name: _without_timing(stages[name]) for name in [*fetched, *wanted]}
    hashed = next(dep["md5"] for dep in lock[f"validate@{task}"]["deps"] if dep["path"] == f"data/raw/{data}")
    return Lineage(lock, lock[f"split@{task}"], receipts.digest(lock), hashed, commit())


def commit() -> str:
    """Return the commit of the code, with '+changes' where code, settings or tracked data differ from it."""
    head = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", "stages", "flows", "dvc.yaml", "params.yaml", "data/raw")
    if head is None:
        return "no commit"
    return head if changes == "" else f"{head}+changes"


def _without_timing(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of dvc.lock without what seconds were written into: its hash differs from run to run."""
    return entry | {"outs": [out for out in entry["outs"] if not out["path"].endswith(TIMED)]}


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (subprocess.SubprocessError, FileNotFoundError):  # not a repository, no commit yet, or no git at all
        return None
