"""Ask DVC by its command line, as its users do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.contract.errors import DagError, UnreachableError
from stages.contract.escape import one_line, redact

# DVC's words if the storage behind it does not answer
SILENT = ("Could not connect", "Read timeout", "Connect timeout", "Timeout on reading")


def dvc(*arguments: str, seconds: float | None = None) -> str:
    """Run DVC and return its stdout; raises DagError with DVC's own words."""
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
    """Return what DVC finds changed, and what meanwhile returned.

    The first maps a stage or .dvc file to DVC's own list of reasons; meanwhile is called while DVC
    looks.
    """
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
