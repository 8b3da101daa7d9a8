"""Asks DVC, as its users do: by its command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.contract.errors import DagError, UnreachableError
from stages.contract.escape import one_line, redact

SILENT = (
    "Could not connect",
    "Read timeout",
    "Connect timeout",
    "Timeout on reading",
)  # what stands behind does not answer


def dvc(*arguments: str, seconds: float | None = None) -> str:
    """Run DVC and return what it writes to stdout; raises DagError with its own words."""
    try:
        done = subprocess.run(
            _command(*arguments),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=_quiet(),
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"dvc {arguments[0]}: not done within {seconds:g} s") from None
    return _answer(arguments[0], done.returncode, done.stdout, done.stderr)


def _command(*arguments: str) -> list[str]:
    """Return the command line of this environment's DVC."""
    return [str(Path(sys.executable).with_name("dvc")), *arguments]


def status(meanwhile: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Return what DVC finds changed (stage or .dvc file -> its own list of reasons), and what was done meanwhile."""
    with subprocess.Popen(
        _command("status", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_quiet(),
    ) as asked:
        done = meanwhile()
        said, wrong = asked.communicate()
    return json.loads(_answer("status", asked.returncode, said, wrong)), done


def _quiet() -> dict[str, str]:
    return os.environ | {"DVC_NO_ANALYTICS": "1"}


def _answer(name: str, code: int, said: str, wrong: str) -> str:
    if code:
        lines = [
            line.removeprefix("ERROR: ")
            for line in wrong.splitlines()
            if line.startswith("ERROR: ")
        ]
        kind = UnreachableError if any(words in wrong for words in SILENT) else DagError
        raise kind(
            f"dvc {name}: {redact(one_line(' '.join(' '.join(lines or [wrong]).split()), 600))}"
        )
    return said
