"""A training that was stopped or killed ends, run again, with an undisturbed one's bytes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stages.contract import plugins, receipts
from stages.contract.history import validated
from stages.contract.learning import Learning, Rows
from stages.contract.runner import Job
from stages.contract.stopping import SIGNALS, Stopped
from stages.methods import resuming
from stages.methods.loop import local
from stages.params.finetune import Finetune, Freeze, Full, Lora
from tests.conftest import ROOT, Project
from tests.test_methods import COMPUTE, FINETUNE, bert, learn, start

THREE = replace(FINETUNE, epochs=3, early_stopping_patience=None)  # six steps each
TUNES = (
    Full("full", True),
    Freeze("freeze", 1),
    Lora("lora", 4, 8.0, 0.1, ("query",), False, False),
)


class Killed(BaseException):
    """After it nothing of ours runs, as after SIGKILL."""


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def at_step(learning: Learning, step: int, happens: Callable[[], None]) -> Learning:
    """Return what is learned from, with something that happens in the middle of a step."""
    import torch

    steps = count(1)

    def loss(*arguments: Any, **named: Any) -> Any:
        if torch.is_grad_enabled() and next(steps) == step:
            happens()
        return learning.loss(*arguments, **named)

    return replace(learning, loss=loss)


def begun(
    folder: Path,
    tune: Any,
    step: int,
    happens: Callable[[], None],
    finetune: Finetune = THREE,
    learning: Learning | None = None,
) -> Any:
    """Return weights and history of a training that continues from the folder, if it has something.

    In a step something happens.
    """
    from transformers import set_seed

    set_seed(1)
    model, new = bert(2)
    how = plugins.tune(tune.name)
    learner, rows = how.prepare(start(model, new), learning or learn(), tune)
    history = local.fit(learner, at_step(rows, step, happens), finetune, COMPUTE, folder)
    return {
        name: value.tolist() for name, value in how.finish(learner).state_dict().items()
    }, history


def trained(folder: Path, tune: Any, *disturbed: tuple[int, Callable[[], None]], **of: Any) -> Any:
    """Return weights and history of a training begun once for each disturbance, then once more."""
    for step, happens in disturbed:
        with pytest.raises((Killed, Stopped)):
            begun(folder, tune, step, happens, **of)
    return begun(folder, tune, 0, kill, **of)


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return weights and history of a training that nobody disturbed, by the method to tune."""
    return {tune.name: trained(tmp_path_factory.mktemp(tune.name), tune) for tune in TUNES}


@pytest.mark.parametrize("tune", TUNES, ids=lambda tune: tune.name)
def test_a_training_that_is_killed_and_stopped_ends_as_if_it_had_not_been(
    tmp_path: Path, tune: Any, whole: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in step 8, it goes on from 6; then it is stopped in step 9.

    The first method is stopped once more in that epoch, and killed in the next.
    """
    more = ((1, terminate), (4, kill)) if tune is TUNES[0] else ()
    again = trained(tmp_path, tune, (8, kill), (3, terminate), *more)
    assert re.findall(r"goes on from step (\d+) of 18", capsys.readouterr().out) == [
        "6",
        "9",
        *(["10", "12"] if more else []),
    ]
    assert again == whole[tune.name]


def test_a_training_that_was_over_when_it_was_killed_makes_no_step_more(tmp_path: Path) -> None:
    first = trained(tmp_path, TUNES[0])
    assert checkpoints(tmp_path)[-1] == 18
    assert trained(tmp_path, TUNES[0], learning=at_step(learn(), 1, kill)) == first


def test_the_patience_of_early_stopping_is_brought_back_and_what_stopped_early_stays_stopped(
    tmp_path: Path,
) -> None:
    """With steps of no size nothing gets better after the first epoch."""
    patient = replace(
        FINETUNE, epochs=6, early_stopping_patience=2, learning_rate=1e-30, head_learning_rate=1e-30
    )
    weights, history = trained(tmp_path / "undisturbed", TUNES[0], finetune=patient)
    assert [entry.epoch for entry in validated(history)] == [1, 2, 3]
    assert trained(
        tmp_path / "disturbed", TUNES[0], (8, terminate), (6, kill), finetune=patient
    ) == (weights, history)
    assert trained(
        tmp_path / "disturbed", TUNES[0], finetune=patient, learning=at_step(learn(), 1, kill)
    ) == (weights, history)


class Altered(list[dict[str, Any]]):
    """Rows that differ in each epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, i: Any) -> Any:
        return {
            **super().__getitem__(i),
            "input_ids": [2, 5 + (i + 7 * self.epoch) % 40, 3],
            "attention_mask": [1, 1, 1],
        }


def test_rows_that_are_altered_anew_in_each_epoch_are_those_of_the_epoch_that_goes_on(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    def altered() -> Learning:
        plain = learn()
        return replace(
            plain, train=Rows(Altered(plain.train.encoded), plain.train.targets, [3] * 24)
        )

    first = trained(tmp_path / "undisturbed", TUNES[0], learning=altered())
    assert trained(tmp_path / "disturbed", TUNES[0], (10, terminate), learning=altered()) == first
    assert whole["full"] != first


def test_a_signal_in_an_epoch_s_last_step_waits_for_its_measurement(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        shutil.rmtree(tmp_path / "stopped", ignore_errors=True)
        with pytest.raises(Stopped) as stopped:
            begun(
                tmp_path / "stopped",
                TUNES[0],
                6,
                lambda number=number: os.kill(os.getpid(), number),
            )
        assert stopped.value.code == code
        assert (
            stopped.value.line == f"stopped by {number.name}; a checkpoint of step 6 is kept, "
            "the same command goes on from there"
        )
    assert [
        entry["step"]
        for entry in resuming.state(tmp_path / "stopped/checkpoint-6")["log_history"]
        if "eval_loss" in entry
    ] == [6]
    assert trained(tmp_path / "stopped", TUNES[0]) == whole["full"]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_step_that_does_not_end_is_left_and_the_last_good_checkpoint_stays(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        terminate()
        time.sleep(30)

    monkeypatch.setattr(local, "PATIENCE", 1)
    with pytest.raises(Stopped) as stopped:
        begun(tmp_path / "disturbed", TUNES[0], 8, hang)
    assert (
        stopped.value.line
        == "stopped by SIGTERM; the same command goes on from the last checkpoint, if one is kept"
    )
    assert checkpoints(tmp_path / "disturbed") == [6]
    assert trained(tmp_path / "disturbed", TUNES[0]) == whole["full"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "its optimiser": (lambda folder: flip(folder / "checkpoint-14/optimizer.pt"), ["12"]),
    "its receipt": (lambda folder: flip(folder / "checkpoint-14/receipt.json"), ["12"]),
    "what no receipt signs": (
        lambda folder: (folder / "checkpoint-14/receipt.json").unlink(),
        ["12"],
    ),
    "a file too many": (
        lambda folder: (folder / "checkpoint-14/pytorch_model.bin").write_bytes(b"cos\nsystem\n"),
        ["12"],
    ),
    "the best one": (lambda folder: flip(folder / "checkpoint-12/model.safetensors"), []),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_not_what_was_signed_is_refused_and_removed(
    tmp_path: Path, damage: str, whole: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    harm, steps = DAMAGES[damage]
    folder = tmp_path / "damaged"
    with pytest.raises(Stopped):
        begun(folder, TUNES[0], 14, terminate)
    assert checkpoints(folder) == [12, 14]
    harm(folder)
    capsys.readouterr()
    assert trained(folder, TUNES[0]) == whole["full"]
    said = capsys.readouterr().out
    assert re.findall(r"goes on from step (\d+)", said) == steps
    assert (
        f"{folder}/checkpoint-1{2 if damage == 'the best one' else 4}: "
        "was not written to its end, or its bytes were changed; removed" in said
    )


# ---- the stage ----

RESULT = ("model/model.safetensors", "metrics.json", "history.json")
STAGE = [sys.executable, "-m", "stages.finetune", "tiny"]


def results(project: Project) -> dict[str, str]:
    return receipts.files(project.root / "data/finetune/tiny", RESULT)


def test_a_stage_that_is_stopped_damaged_and_killed_goes_on_and_hands_on_the_same_bytes(
    finished: Project, tmp_path: Path
) -> None:
    """SIGTERM leaves a checkpoint; if that is damaged, the one of the best epoch is used.

    SIGKILL leaves none of its own. An epoch is 133 steps.
    """
    project = finished.copy(tmp_path / "project").forget(
        "finetune", "export", "evaluate", "register"
    )
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(epochs=3, batch_size=1))
    undisturbed = project.copy(tmp_path / "undisturbed")
    undisturbed.stage("finetune")
    work = project.root / "data/.work/finetune/tiny"

    with subprocess.Popen(
        STAGE, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 120
        while not [*work.glob("checkpoints/*/checkpoint-133/receipt.json")]:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    (line,) = [line for line in said.splitlines() if line.startswith("refit: ")]
    step = re.fullmatch(
        r"refit: stopped by SIGTERM; a checkpoint of step (\d+) is kept, "
        r"the same command goes on from there",
        line,
    )
    assert process.returncode == 143 and step and "Traceback" not in said, said
    assert sorted(path.name for path in work.iterdir()) == ["checkpoints", "lock"]

    (last,) = work.glob(f"checkpoints/*/checkpoint-{step[1]}")
    flip(last / "optimizer.pt")
    with subprocess.Popen(STAGE, cwd=project.root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        removed = (
            f"{last.relative_to(project.root)}: was not written to its end, "
            "or its bytes were changed; removed\n"
        )
        assert removed in iter(process.stdout.readline, "")
        assert process.stdout.readline().startswith("goes on from step 133 of 399 (epoch 1)")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    said = project.stage("finetune").stdout
    assert re.search(r"goes on from step (133|266) of 399 \(epoch [12]\)", said), said
    assert results(project) == results(undisturbed)
    assert sorted(path.name for path in work.iterdir()) == ["lock"]


def test_a_checkpoint_is_of_equal_inputs_params_facts_and_code_alone(tmp_path: Path) -> None:
    one = Job(
        "finetune",
        "tiny",
        tmp_path / "out",
        tmp_path,
        taken={"a": "1"},
        facts={"device": "cpu"},
        params={"finetune": {"epochs": 3}},
    )
    folder = one.resumable()
    (folder / "checkpoint-1").mkdir()
    assert one.resumable() == folder and (folder / "checkpoint-1").exists()
    for change in (
        {"taken": {"a": "2"}},
        {"facts": {"device": "cuda"}},
        {"params": {"finetune": {"epochs": 4}}},
    ):
        other = replace(one, **change).resumable()
        assert other != folder and [*other.parent.iterdir()] == [other]


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_a_stage_whose_parent_ended_while_it_began_ends_too(tmp_path: Path) -> None:
    child = (
        "import stages, time; time.sleep(1); from stages.contract import stopping; "
        f"stopping.with_parent(); open({str(tmp_path / 'alive')!r}, 'w')"
    )
    parent = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
        f"{child!r}], stderr=open({str(tmp_path / 'said')!r}, 'w')).pid)"
    )
    subprocess.run(
        [sys.executable, "-c", f"{parent}; import time; time.sleep(0.3)"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 30
    while (
        not (tmp_path / "said").read_text()
        and not (tmp_path / "alive").exists()
        and time.monotonic() < until
    ):
        time.sleep(0.1)
    assert "is gone" in (tmp_path / "said").read_text()
    assert not (tmp_path / "alive").exists()
