"""Keep DVC's command line loaded and give it one order after another.

Starting DVC costs a second, each time. Run as a program, this module is the process that keeps it
loaded: each line of stdin is a JSON array of what follows `dvc`; what DVC and the stage say comes
out on stdout, and then a line with the order's own token and DVC's exit code.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil

from stages.contract import stopping


class Dvc:
    """One process that keeps DVC loaded; another is started if it was killed."""

    def __init__(self) -> None:
        self.process = self._start()

    def order(self, *arguments: str) -> Iterator[str | int]:
        """Carry out `dvc ARGUMENTS`; yield each line that is said, then the exit code.

        The exit code is -9 if the process was killed.
        """
        if self.process.poll() is not None:
            self.process = self._start()
        token = secrets.token_hex(16)
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # reported below, by the end of its output
            self.process.stdin.write(json.dumps([token, *arguments]) + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(token):
                yield int(line.split()[1])
                return
            if line.strip():
                yield line.rstrip()
        yield self.process.wait()

    def below(self) -> list[psutil.Process]:
        """Return the processes of the stage that runs, if one does."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        """End the process after it has carried out its order."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    @staticmethod
    def _start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "flows.reproduce"]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )


def _serve() -> None:
    """Carry out orders until stdin ends.

    Die with the parent, but outlive a signal that means the stage below.
    """
    stopping.with_parent()
    for number in stopping.SIGNALS:
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the stage would inherit
    orders = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # or a stage would inherit the orders
    from dvc.cli import main

    for line in orders:
        token, *arguments = json.loads(line)
        code = main(arguments)
        sys.stderr.flush()
        print(f"\n{token} {code}", flush=True)


if __name__ == "__main__":
    _serve()
