"""A training that was stopped or killed ends, run again, with the bytes of one that nobody disturbed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stages.contract import plugins, receipts
from stages.contract.params import Finetune, Freeze, Full, LinearProbe, Lora
from stages.contract.plugins import Learning, Rows
from stages.contract.runner import Job
from stages.contract.stopping import Stopped
from stages.methods import resuming
from stages.methods.loop import local
from tests.conftest import Project
from tests.test_methods import COMPUTE, FINETUNE, bert, learn

THREE = replace(FINETUNE, epochs=3, early_stopping_patience=None)  # six steps each
TUNES = (Full("full", True), Freeze("freeze", 1), LinearProbe("linear_probe"), Lora("lora", 4, 8.0, 0.1, ("query",)))


class Killed(BaseException):
    """Nothing of ours runs after it, as after SIGKILL."""


def kill() -> None:
    raise Killed


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def at_step(learning: Learning, step: int, happens: Callable[[], None]) -> Learning:
    """Return what is learned from; something happens in the midst of a step."""
    import torch

    steps = count(1)

    def loss(*arguments: Any, **named: Any) -> Any:
        if torch.is_grad_enabled() and next(steps) == step:
            happens()
        return learning.loss(*arguments, **named)

    return replace(learning, loss=loss)


def begun(folder: Path, tune: Any, step: int, happens: Callable[[], None], finetune: Finetune = THREE, learning: Learning | None = None) -> Any:
    """Return weights and history of a training that goes on from what is in the folder, if something is; in a step something happens."""
    from transformers import set_seed

    set_seed(1)
    model, new = bert(2)
    how = plugins.tune(tune.name)
    learner, rows = how.prepare(model, new, learning or learn(), tune)
    history = local.fit(learner, at_step(rows, step, happens), finetune, COMPUTE, folder)
    return {name: value.tolist() for name, value in how.finish(learner).state_dict().items()}, history


def trained(folder: Path, tune: Any, *disturbed: tuple[int, Callable[[], None]], **of: Any) -> Any:
    """Return weights and history of a training that is begun once for each disturbance, and then once more."""
    for step, happens in disturbed:
        with pytest.raises((Killed, Stopped)):
            begun(folder, tune, step, happens, **of)
    return begun(folder, tune, 0, kill, **of)


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize("tune", TUNES, ids=lambda tune: tune.name)
def test_a_training_that_is_killed_and_stopped_ends_as_if_it_had_not_been(tmp_path: Path, tune: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed in step 8 it goes on from 6; then it is stopped twice in one epoch, at 9 and 10, and killed in the next."""
    weights, history = trained(tmp_path / "undisturbed", tune)
    capsys.readouterr()
    again = trained(tmp_path / "disturbed", tune, (8, kill), (3, terminate), (1, terminate), (4, kill))
    assert re.findall(r"goes on from step (\d+) of 18", capsys.readouterr().out) == ["6", "9", "10", "12"]
    assert again == (weights, history)


def test_a_training_that_was_over_when_it_was_killed_makes_no_step_more(tmp_path: Path) -> None:
    first = trained(tmp_path, TUNES[0])
    assert checkpoints(tmp_path)[-1] == 18
    assert trained(tmp_path, TUNES[0], learning=at_step(learn(), 1, kill)) == first


def test_the_patience_of_early_stopping_is_brought_back_and_what_stopped_early_stays_stopped(tmp_path: Path) -> None:
    """With steps of no size nothing gets better after the first epoch."""
    patient = replace(FINETUNE, epochs=6, early_stopping_patience=2, learning_rate=1e-30)
    weights, history = trained(tmp_path / "undisturbed", TUNES[0], finetune=patient)
    assert [entry["epoch"] for entry in history if "eval_loss" in entry] == [1, 2, 3]
    assert trained(tmp_path / "disturbed", TUNES[0], (8, terminate), (6, kill), finetune=patient) == (weights, history)
    assert trained(tmp_path / "disturbed", TUNES[0], finetune=patient, learning=at_step(learn(), 1, kill)) == (weights, history)


class Altered(list[dict[str, Any]]):
    """Rows that are others in each epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, i: Any) -> Any:
        return {**super().__getitem__(i), "input_ids": [2, 5 + (i + 7 * self.epoch) % 40, 3], "attention_mask": [1, 1, 1]}


def test_rows_that_are_altered_anew_in_each_epoch_are_those_of_the_epoch_that_goes_on(tmp_path: Path) -> None:
    def altered() -> Learning:
        whole = learn()
        return replace(whole, train=Rows(Altered(whole.train.encoded), whole.train.targets, [3] * 24))

    first = trained(tmp_path / "undisturbed", TUNES[0], learning=altered())
    assert trained(tmp_path / "disturbed", TUNES[0], (10, terminate), learning=altered()) == first
    assert trained(tmp_path / "others", TUNES[0]) != first


def test_a_signal_in_an_epoch_s_last_step_waits_for_its_measurement(tmp_path: Path) -> None:
    first = trained(tmp_path / "undisturbed", TUNES[0])
    with pytest.raises(Stopped) as stopped:
        begun(tmp_path / "stopped", TUNES[0], 6, terminate)
    assert stopped.value.code == 143
    assert stopped.value.line == "stopped by SIGTERM; a checkpoint of step 6 is kept, the same command goes on from there"
    assert [entry["step"] for entry in resuming.state(tmp_path / "stopped/checkpoint-6")["log_history"] if "eval_loss" in entry] == [6]
    assert trained(tmp_path / "stopped", TUNES[0]) == first
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_step_that_does_not_end_is_left_and_the_last_good_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> None:
        terminate()
        time.sleep(30)

    monkeypatch.setattr(local, "PATIENCE", 1)
    first = trained(tmp_path / "undisturbed", TUNES[0])
    with pytest.raises(Stopped) as stopped:
        begun(tmp_path / "disturbed", TUNES[0], 8, hang)
    assert stopped.value.line == "stopped by SIGTERM; the same command goes on from the last checkpoint, if one is kept"
    assert checkpoints(tmp_path / "disturbed") == [6]
    assert trained(tmp_path / "disturbed", TUNES[0]) == first


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "its optimiser": (lambda folder: flip(folder / "checkpoint-14/optimizer.pt"), ["12"]),
    "its receipt": (lambda folder: flip(folder / "checkpoint-14/receipt.json"), ["12"]),
    "what no receipt signs": (lambda folder: (folder / "checkpoint-14/receipt.json").unlink(), ["12"]),
    "a file too many": (lambda folder: (folder / "checkpoint-14/pytorch_model.bin").write_bytes(b"cos\nsystem\n"), ["12"]),
    "the best one": (lambda folder: flip(folder / "checkpoint-12/model.safetensors"), []),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_not_what_was_signed_is_refused_and_removed(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    harm, steps = DAMAGES[damage]
    first = trained(tmp_path / "undisturbed", TUNES[2])
    folder = tmp_path / "damaged"
    with pytest.raises(Stopped):
        begun(folder, TUNES[2], 14, terminate)
    assert checkpoints(folder) == [12, 14]
    harm(folder)
    capsys.readouterr()
    assert trained(folder, TUNES[2]) == first
    said = capsys.readouterr().out
    assert re.findall(r"goes on from step (\d+)", said) == steps
    assert f"{folder}/checkpoint-1{2 if damage == 'the best one' else 4}: was not written to its end, or its bytes were changed; removed" in said


# ---- the stage ----

RESULT = ("model/model.safetensors", "metrics.json", "history.json")
STAGE = [sys.executable, "-m", "stages.finetune", "tiny"]


def results(project: Project) -> dict[str, str]:
    return receipts.files(project.root / "data/finetune/tiny", RESULT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, finished: Project) -> Project:
    """A project in which finetune has made four epochs of 133 steps."""
    project = finished.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(epochs=4, batch_size=1))
    project.stage("finetune")
    return project


@pytest.fixture
def training(tmp_path: Path, undisturbed: Project) -> Iterator[tuple[Project, "subprocess.Popen[str]"]]:
    """Another in which it has signed the first checkpoint and goes on."""
    project = undisturbed.copy(tmp_path / "project")
    shutil.rmtree(project.root / "data/finetune")
    with subprocess.Popen(STAGE, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while not [*project.root.glob("data/.work/finetune/tiny/checkpoints/*/checkpoint-*/receipt.json")]:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        yield project, process
        process.kill()


def test_a_stage_that_was_killed_goes_on_and_hands_on_the_same_bytes(training: tuple[Project, "subprocess.Popen[str]"], undisturbed: Project) -> None:
    project, process = training
    process.kill()
    assert process.wait() == -signal.SIGKILL
    said = project.stage("finetune").stdout
    assert re.search(r"goes on from step (133|266|399|532) of 532 \(epoch [1-4]\)", said), said
    assert results(project) == results(undisturbed)
    assert sorted(path.name for path in (project.root / "data/.work/finetune/tiny").iterdir()) == ["lock"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stage_that_is_stopped_keeps_a_checkpoint_says_so_and_goes_on_later(
    training: tuple[Project, "subprocess.Popen[str]"], undisturbed: Project, number: signal.Signals, code: int
) -> None:
    project, process = training
    time.sleep(0.2)
    process.send_signal(number)
    began = time.monotonic()
    _, said = process.communicate(timeout=30)
    print(f"{number.name}: {time.monotonic() - began:.2f} s")
    (line,) = [line for line in said.splitlines() if line.startswith("refit: ")]
    step = re.fullmatch(rf"refit: stopped by {number.name}; a checkpoint of step (\d+) is kept, the same command goes on from there", line)
    assert process.returncode == code and step and "Traceback" not in said, said
    assert sorted(path.name for path in (project.root / "data/.work/finetune/tiny").iterdir()) == ["checkpoints", "lock"]
    assert f"goes on from step {step[1]} of 532" in project.stage("finetune").stdout
    assert results(project) == results(undisturbed)


def test_a_stage_whose_last_checkpoint_was_changed_goes_on_from_the_one_before(training: tuple[Project, "subprocess.Popen[str]"], undisturbed: Project) -> None:
    project, process = training
    process.send_signal(signal.SIGTERM)
    process.wait()
    last = max(project.root.glob("data/.work/finetune/tiny/checkpoints/*/*"), key=lambda path: int(path.name.partition("-")[2]))
    flip(last / "optimizer.pt")
    said = project.stage("finetune").stdout
    assert f"{last.relative_to(project.root)}: was not written to its end, or its bytes were changed; removed" in said
    assert results(project) == results(undisturbed)


def test_a_checkpoint_is_of_equal_inputs_params_facts_and_code_alone(tmp_path: Path) -> None:
    one = Job("finetune", "tiny", tmp_path / "out", tmp_path, taken={"a": "1"}, facts={"device": "cpu"}, params={"finetune": {"epochs": 3}})
    folder = one.resumable()
    (folder / "checkpoint-1").mkdir()
    assert one.resumable() == folder and (folder / "checkpoint-1").exists()
    for change in ({"taken": {"a": "2"}}, {"facts": {"device": "cuda"}}, {"params": {"finetune": {"epochs": 4}}}):
        other = replace(one, **change).resumable()
        assert other != folder and [*other.parent.iterdir()] == [other]
