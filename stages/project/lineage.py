"""Say what a model was made from.

That is the commit, the data as DVC hashed it, and this task's part of dvc.lock.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract import receipts
from stages.contract.errors import ReceiptError
from stages.contract.escape import one_line
from stages.contract.settings import read_yaml

MAX_BYTES = 50_000_000  # of dvc.lock: about 30 kB a task
TIMED = ("/timing.json", "/report.html")
# what git says if there is no repository, and if nothing was committed
NONE_YET = ("not a git repository (or any", "ambiguous argument 'HEAD'")
UPSTREAM = ("validate", "augment", "split", "finetune", "export", "evaluate")
STAGES = (*UPSTREAM, "register")


@dataclass(frozen=True)
class Lineage:
    """What a model was made from.

    `lock` is the excerpt of dvc.lock, `split` its entry of the stage split, `data` DVC's hash of
    the raw data set, `commit` the commit of the code (or 'no commit').
    """

    lock: dict[str, Any]
    split: dict[str, Any]
    lock_sha256: str
    data: str
    commit: str


def read(task: str, data: str, base: str) -> Lineage:
    """Read the lineage of a task's candidate from dvc.lock and git.

    Raises ReceiptError if a stage has no entry.
    """
    stages, wanted = locked().get("stages", {}), [f"{stage}@{task}" for stage in UPSTREAM]
    if lacking := [name for name in wanted if name not in stages]:
        raise ReceiptError(
            f"dvc.lock: has no entry of {', '.join(lacking)}; "
            f"run `dvc repro register@{task}`, which runs them first"
        )
    if broken := [name for name in wanted if not _is_whole(stages[name])]:
        raise ReceiptError(
            f"dvc.lock: its entry of {broken[0]} is not as DVC writes it; "
            f"run `dvc repro -f {broken[0]}`"
        )
    fetched = [name for name in (f"fetch@{data}", f"fetch@{base}") if name in stages]
    lock = {name: _without_timing(stages[name]) for name in [*fetched, *wanted]}
    hashed = next(
        dep["md5"] for dep in lock[f"validate@{task}"]["deps"] if dep["path"] == f"data/raw/{data}"
    )
    return Lineage(lock, lock[f"split@{task}"], receipts.digest(lock), hashed, commit())


def locked() -> dict[str, Any]:
    """Return dvc.lock; empty if there is none."""
    path = Path("dvc.lock")
    return (read_yaml(path, MAX_BYTES) or {}) if path.exists() else {}


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, dict) and {"deps", "outs"} <= entry.keys()


def commit() -> str:
    """Return the commit of the code.

    '+changes' follows it if code, settings or tracked data differ from it. In a folder without git,
    or without a commit yet, it is 'no commit'; if git refuses, its own words say why the commit is
    unknown.
    """
    try:
        head = _git("rev-parse", "HEAD")
        changes = _git(
            "status", "--porcelain", "--", "stages", "flows", "dvc.yaml", "params.yaml", "data/raw"
        )
    except FileNotFoundError:
        return "no commit"
    except subprocess.TimeoutExpired as error:
        return f"unknown (git: no answer within {error.timeout:g} s)"
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip()
        if any(words in message for words in NONE_YET):
            return "no commit"
        return f"unknown (git: {one_line(message.partition(chr(10))[0], 200)})"
    if not re.fullmatch("[0-9a-f]{40,64}", head):
        return f"unknown (git: {one_line(head, 100)})"
    return head if changes == "" else f"{head}+changes"


def _without_timing(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of dvc.lock without the outputs that record seconds.

    Their hash differs from run to run.
    """
    return entry | {"outs": [out for out in entry["outs"] if not out["path"].endswith(TIMED)]}


def _git(*arguments: str) -> str:
    """Return git's output; raises subprocess.CalledProcessError with its words.

    The words name files, in bytes of any kind.
    """
    how: dict[str, Any] = {"text": True, "errors": "backslashreplace", "timeout": 30, "check": True}
    return subprocess.run(
        ["git", *arguments], capture_output=True, env=os.environ | {"LC_ALL": "C"}, **how
    ).stdout.strip()
