"""Long work says how far it has come; short work says nothing."""

import itertools
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stages.contract import progress
from tests.conftest import ROOT


def clock(step: float) -> Iterator[float]:
    return (step * tick for tick in itertools.count())


def followed(count: int, seconds_each: float) -> None:
    ticks = clock(seconds_each)
    assert list(progress.follow(range(count), "encode", count, clock=lambda: next(ticks))) == list(
        range(count)
    )


def test_long_work_says_every_ten_seconds_how_much_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    followed(2600, 0.01)
    assert capsys.readouterr().out.splitlines() == [
        "encode: 200 of 2,600 rows, about 24 s left",
        "encode: 1,200 of 2,600 rows, about 14 s left",
        "encode: 2,200 of 2,600 rows, about 4 s left",
    ]


def test_work_of_less_than_ten_seconds_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    followed(900, 0.01)
    followed(3, 3)  # and neither does its end
    followed(0, 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (14.4, "14 s"),
        (89, "89 s"),
        (95, "2 min"),
        (3000, "50 min"),
        (4790, "80 min"),
        (5000, "83 min"),
        (5500, "1 h 30 min"),
        (7190, "2 h"),
    ],
)
def test_durations_are_said_as_a_person_says_them(seconds: float, words: str) -> None:
    assert progress.spell(seconds) == words


def test_a_terminal_gets_a_bar_and_no_line() -> None:
    script = (
        "from stages.contract import progress; t = iter(range(0, 99, 3)); "
        "list(progress.follow(range(9), 'encode', 9, clock=lambda: next(t)))"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    assert done.stdout == b""
    assert "encode" in shown
    assert "/9" in shown
