"""refit calibrate: measure what is fastest on this machine, with the task's own model and rows.

The result is written where params.yaml says it.
"""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stages.commands import calibrate
from stages.contract import settings
from stages.contract.errors import ParamsError
from stages.models import device
from stages.params.compute import Compute
from tests.conftest import Project

NOW = Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=32)


def test_every_choice_is_timed_and_the_fastest_is_written_and_nothing_else(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = done.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    before = (project.root / "params.yaml").read_text()
    found = calibrate.calibrate("tiny")
    assert all(
        seconds > 0
        for trial in found.trials
        for seconds in (trial.training, trial.scoring)
        if seconds is not None
    )
    assert {trial.compute.threads for trial in found.trials if trial.training} >= {1}
    assert {trial.compute.batch_size for trial in found.trials if trial.scoring} == {
        *calibrate.BATCHES,
        found.before.batch_size,
    }
    assert settings.load().tasks["tiny"].compute == found.compute
    after = (project.root / "params.yaml").read_text()
    changed = [
        line.split(":")[0].strip()
        for line, other in zip(before.splitlines(), after.splitlines(), strict=True)
        if line != other
    ]
    assert set(changed) <= set(asdict(found.compute))
    assert (changed == []) == (found.compute == found.before)


STYLES = (
    "{threads: 1, dtype: float32, memory_format: contiguous_format, batch_size: 32}  # as it was",
    (
        "\n      threads: 1   # a comment\n      dtype: float32\n"
        "      memory_format: contiguous_format\n      batch_size: 32"
    ),
)


@pytest.mark.parametrize("written", STYLES)
def test_values_are_set_in_their_places_whatever_the_style(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    project = done.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    path = project.root / "params.yaml"
    head, _, rest = path.read_text().partition("    compute:\n")
    tail = rest[rest.index("    validate:") :]
    path.write_text(f"{head}    compute: {written}\n{tail}")
    calibrate._write("tiny", NOW, after := replace(NOW, threads=2, dtype="auto", batch_size=256))
    assert settings.load().tasks["tiny"].compute == after
    expected = (
        written.replace("threads: 1", "threads: 2")
        .replace("float32", "auto")
        .replace("size: 32", "size: 256")
    )
    assert path.read_text() == f"{head}    compute: {expected}\n{tail}"


def test_a_change_must_be_worth_it() -> None:
    faster = replace(NOW, threads=2)
    assert calibrate._best([(NOW, 1.0), (faster, 0.97)], NOW) == NOW
    assert calibrate._best([(NOW, 1.0), (faster, 0.5)], NOW) == faster
    assert (
        calibrate._best([(replace(NOW, dtype=device.dtype(NOW)), 1.0), (faster, 0.97)], NOW) == NOW
    )


def test_a_task_that_there_is_not_is_named(done: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(done.root)
    with pytest.raises(ParamsError, match="there is no task 'nobody'; have: tiny"):
        calibrate.calibrate("nobody")
