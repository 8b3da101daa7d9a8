"""Ask DVC by its command line, as its users do."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.contract.errors import BusyError, DagError, UnreachableError
from stages.contract.escape import one_line, redact
from stages.project import graph

# DVC's words if the storage behind it does not answer
SILENT = ("Could not connect", "Read timeout", "Connect timeout", "Timeout on reading")

BUSY = "is busy, it is being blocked by"  # DVC's words if a stage that runs writes what it needs


def dvc(*arguments: str, seconds: float | None = None) -> str:
    """Run DVC and return its stdout.

    Raises DagError with DVC's own words, or the error of a stage that DVC ran, with its line.
    """
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


def status(meanwhile: Callable[[], Any]) -> tuple[dict[str, Any], list[str], Any]:
    """Return what DVC finds changed, what it cannot look at, and what meanwhile returned.

    The first maps a stage or .dvc file to DVC's own list of reasons; the second are the stages that
    run or read what is being written; meanwhile is called while DVC looks.
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
    if BUSY in wrong:
        dag = graph.ask(Path.cwd(), idle=False)
        return dag.changed, dag.busy, done
    return json.loads(_answer("status", asked.returncode, said, wrong)), [], done


def _quiet() -> dict[str, str]:
    return os.environ | {"DVC_NO_ANALYTICS": "1"}


def _answer(name: str, code: int, said: str, wrong: str) -> str:
    if code:
        _raise_stage_error(wrong)
        lines = [
            line.removeprefix("ERROR: ")
            for line in wrong.splitlines()
            if line.startswith("ERROR: ")
        ]
        kinds = {BUSY: BusyError, **dict.fromkeys(SILENT, UnreachableError)}
        kind = next((kind for words, kind in kinds.items() if words in wrong), DagError)
        raise kind(
            f"dvc {name}: {redact(one_line(' '.join(' '.join(lines or [wrong]).split()), 600))}"
        )
    return said


def _raise_stage_error(wrong: str) -> None:
    """Raise the error of the stage that failed, if one did, by its own line and exit code."""
    line = re.search(r"^refit: (.+)$", wrong, re.M)
    code = re.search(r"exited with (\d+)", wrong)
    if line and code:
        kinds = {kind.exit_code: kind for kind in (DagError, BusyError, UnreachableError)}
        raise kinds.get(int(code[1]), DagError)(redact(one_line(line[1], 600)))
