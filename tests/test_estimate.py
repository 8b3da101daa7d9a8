"""About how long a task takes: by its last run if that was alike, else by a measurement."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stages.commands import estimate
from stages.commands.estimate import Measured
from stages.contract import settings
from stages.params.finetune import Freeze, LinearProbe, ProbeHead, RandomHead
from stages.params.task import Task
from tests.conftest import ROOT, Project

QUESTIONS = settings.load(ROOT / "params.yaml").tasks["questions"]


def epochs(number: int) -> Task:
    return replace(QUESTIONS, finetune=replace(QUESTIONS.finetune, epochs=number))


def ran(root: Path, rows: int, epochs: int, tune: str = "full") -> None:
    """Write a run's timings: a second before each stage's work, 10 of work, 100 of training."""
    for stage in estimate.STAGES:
        folder = root / "data" / stage / "questions"
        folder.mkdir(parents=True)
        (folder / "timing.json").write_text(
            json.dumps(
                {
                    "seconds_before_work": 1.0,
                    "seconds_of_work": 100.0 if stage == "finetune" else 10.0,
                }
            )
        )
    params = {
        "finetune": {"epochs": epochs, "tune": {"name": tune}},
        "compute": {"dtype": QUESTIONS.compute.dtype},
    }
    (root / "data/finetune/questions/provenance.json").write_text(json.dumps({"params": params}))
    (root / "data/split/questions/leakage.json").write_text(
        json.dumps({"parts": {"train": {"rows": rows - 10}, "test": {"rows": 10}}})
    )


def test_the_last_run_is_scaled_by_rows_and_by_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert estimate.by_last_run("questions", epochs(4), 1000) is None
    ran(tmp_path, 1000, epochs=4)
    assert estimate.by_last_run("questions", epochs(4), 1000) == pytest.approx(167)
    assert estimate.by_last_run("questions", epochs(8), 1000) == pytest.approx(267)
    assert estimate.by_last_run("questions", epochs(4), 2000) == pytest.approx(327)


def test_a_run_that_learned_in_another_way_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran(tmp_path, 1000, epochs=4, tune="linear_probe")
    assert estimate.by_last_run("questions", epochs(4), 1000) is None


def test_a_measurement_is_scaled_by_rows_and_by_epochs() -> None:
    work = [
        estimate.by_measurement(epochs(e), rows, Measured(0.01, 1, 6)) - estimate.STARTING
        for e, rows in ((4, 6000), (8, 6000), (4, 12_000), (8, 12_000))
    ]
    assert 700 < work[0] < 1100  # 4,800 rows in 4 epochs of three times 10 ms, and scoring
    assert 1.5 < work[1] / work[0] < 2
    assert 1.5 < work[2] / work[0] < 2
    assert estimate.by_measurement(
        epochs(4), 6000, Measured(0.02, 1, 6)
    ) - estimate.STARTING == pytest.approx(2 * work[0])


def test_several_views_are_of_validation_and_test_alone() -> None:
    one, four = (
        estimate.by_measurement(epochs(4), 6000, Measured(0.01, views, 6)) for views in (1, 4)
    )
    assert four - one == pytest.approx(3 * 0.01 * 1200)


def test_a_head_alone_takes_far_less(tmp_path: Path) -> None:
    head = replace(
        QUESTIONS, finetune=replace(QUESTIONS.finetune, tune=LinearProbe("linear_probe"))
    )
    assert isinstance(head.finetune.head, ProbeHead)
    assert (
        estimate.by_measurement(head, 6000, Measured(0.01, 1, 6))
        < estimate.by_measurement(QUESTIONS, 6000, Measured(0.01, 1, 6)) / 2
    )


def test_layers_that_stay_are_computed_once_where_rows_are_not_altered_anew() -> None:
    cells, share = settings.load(ROOT / "params.yaml").tasks["solar_cells"], 0.5
    anew = replace(
        cells,
        finetune=replace(
            cells.finetune, head=RandomHead("random"), tune=Freeze("freeze", 3), epochs=4
        ),
    )
    kept = replace(anew, augment=replace(anew.augment, on_the_fly=False, share=0.0))
    validation = 1000 * cells.split.validation
    train = 1000 - validation - 1000 * cells.split.test
    assert anew.augment.on_the_fly
    assert estimate.training(kept, 1000, Measured(1.0, 1, 6)) == pytest.approx(
        train + validation + 4 * (3 * share * train + share * validation)
    )
    assert estimate.training(anew, 1000, Measured(1.0, 1, 6)) == pytest.approx(
        4 * ((1 + 2 * share) * train + validation)
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (50, "about 35 to 80 s"),
        (100, "about 70 s to 3 min"),
        (600, "about 7 to 16 min"),
        (9000, "about 1 h 40 min to 4 h"),
        (1, "about 1 to 2 s"),
    ],
)
def test_an_estimate_is_said_as_a_range(seconds: float, words: str) -> None:
    assert estimate.spell_range(seconds) == words


def test_a_task_is_measured_with_its_own_rows_and_base(
    fresh: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fresh.root)
    task = settings.load().tasks["tiny"]
    assert "by a measurement of its base model on this machine (" in estimate.say("tiny", task)
    assert (
        estimate.say("tiny", replace(task, base="nowhere"))
        == "can be said once data/raw/nowhere is here"
    )
