"""Every way to tune with every objective: a real training of a tiny model keeps what is promised.

The loss of rows that can be memorised falls, what is frozen stays, what was saved predicts the
same, and what cannot work says why.
"""

import shutil
import tempfile
import typing
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.contract import plugins, store
from stages.contract.errors import ModelError
from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.methods import losses, optimisers
from stages.methods.loop import local
from stages.models import adapters, loading
from stages.models.saved import Base, Saved
from stages.params import finetune as types
from stages.params.finetune import (
    Adversarial,
    BitFit,
    Consistency,
    Contrastive,
    CrossEntropy,
    Distill,
    FewShot,
    Focal,
    Freeze,
    Full,
    Gradual,
    Ia3,
    LinearProbe,
    Lora,
    Mixup,
    Prefix,
    Prompt,
    PTuning,
    Standard,
    ZeroShot,
)
from stages.problems import classification, multi_label, regression
from tests.test_methods import COMPUTE, FINETUNE, bert
from tests.test_methods import learn as rows_of_text
from tests.test_methods import start as begins

TUNES: dict[str, Any] = {
    "full": Full("full", True),
    "freeze": Freeze("freeze", 1),
    "gradual": Gradual("gradual", 1, 0.5),
    "lora": Lora("lora", 4, 8.0, 0.0, ("query", "value"), False, False),
    "lora rslora": Lora("lora", 4, 8.0, 0.0, "all-linear", True, False),
    "lora dora": Lora("lora", 4, 8.0, 0.0, ("query",), False, True),
    "ia3": Ia3("ia3", None, ()),
    "ia3 stated": Ia3("ia3", ("key", "output.dense"), ("output.dense",)),
    "bitfit": BitFit("bitfit"),
    "prompt": Prompt("prompt", 3),
    "p_tuning": PTuning("p_tuning", 3, 16),
    "prefix": Prefix("prefix", 3),
    "few_shot": FewShot("few_shot", 2, 0.3, 1.0, ()),
}
STEPLESS: dict[str, Any] = {  # nothing learns by steps
    "linear_probe": LinearProbe("linear_probe"),
    "zero_shot": ZeroShot("zero_shot", ("{label}",), {}, 0.05),
}
TOKENS = ("prompt", "p_tuning", "prefix")  # made-up ones, which no weight takes up
OBJECTIVES: dict[str, Any] = {
    "cross_entropy": CrossEntropy("cross_entropy", 0.1, "balanced"),
    "focal": Focal("focal", 2.0, "balanced"),
    "fgm": Adversarial("adversarial", "pgd", "l2", 0.05, 1, 0.5),
    "pgd": Adversarial("adversarial", "pgd", "inf", 0.05, 3, 0.5),
    "freelb": Adversarial("adversarial", "freelb", "l2", 0.05, 2, 0.5),
    "consistency": Consistency("consistency", "dropout", 1.0),
    "copies": Consistency("consistency", "copies", 1.0),
    "distill": Distill("distill", "teacher", "0" * 64, 0.5, 2.0, 0.0),
    "distill features": Distill("distill", "teacher", "0" * 64, 0.5, 2.0, 1.0),
    "contrastive": Contrastive("contrastive", 0.3, 0.2),
}
PICTURED: dict[str, Any] = {
    name: of
    for name, of in OBJECTIVES.items()
    if "distill" not in name  # the teacher reads texts
} | {
    "mixup": Mixup("mixup", 0.2, False),
    "cutmix": Mixup("mixup", 0.2, True),
}
OTHERS = {  # objectives of problems without one label a row
    name: objective
    for name, objective in (OBJECTIVES | PICTURED | {"standard": Standard("standard")}).items()
    if "none" in objective.LABELS
}
STEPS = replace(FINETUNE, epochs=8, batch_size=4, head_learning_rate=0.1, dropout=None)


def test_every_file_is_among_the_combinations() -> None:
    for of, tried in (("Tune", TUNES), ("Objective", OBJECTIVES | PICTURED | OTHERS)):
        every = set(typing.get_args(getattr(types, of)))
        assert {type(one) for one in (tried | STEPLESS).values()} >= every, of


def resnet() -> tuple[Any, frozenset[str]]:
    """Return a tiny ResNet with a new head, and the names of the head's parameters."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16], depths=[1, 1, 1], num_labels=3)
    )
    return model, frozenset({"classifier.1.weight", "classifier.1.bias"})


@cache
def pictures() -> Rows:
    """Return twelve pictures of noise, 16 pixels a side, of three labels."""
    import torch

    draw = torch.Generator().manual_seed(0)
    encoded = [{"pixel_values": torch.randn(3, 16, 16, generator=draw)} for _ in range(12)]
    return Rows(encoded, [i % 3 for i in range(12)], [1] * 12)


def stack(batch: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    made = {"pixel_values": torch.stack([row["pixel_values"] for row in batch])}
    targets = [row["labels"] for row in batch if "labels" in row]
    return made | ({"labels": torch.tensor(targets)} if targets else {})


def begin(kind: str, of_y: Any = classification, dropout: float = 0.1) -> tuple[Start, Learning]:
    """Return a model, and rows that it can memorise; the loss is not set yet."""
    import torch

    model, new = bert(2) if kind == "text" else resnet()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = dropout
    with torch.no_grad():  # weights as small as a new model's tell rows apart by a thousandth
        for weights in model.base_model.parameters():
            weights.mul_(10 if weights.ndim > 1 and kind == "text" else 1)
    if kind == "image":
        model.classifier.insert(1, torch.nn.Dropout(dropout))
        new = frozenset({"classifier.2.weight", "classifier.2.bias"})
    model.config.problem_type = of_y.KIND
    plain = losses.Plain(losses.of_problem(model.config))
    learning = replace(rows_of_text(), loss=plain)
    if kind == "text":
        some = range(12)
        encoded = [learning.train.encoded[i] for i in some]
        rows = Rows(encoded, [i % 3 for i in some], [learning.train.lengths[i] for i in some])
    else:
        rows = pictures()
        learning = replace(learning, collate=stack)
    start = replace(
        begins(model, new, of_y, kind),
        samples=samples(len(rows)),
        raw=lambda _: (teacher(of_y), "0" * 64),
    )
    head = frozenset(name.rpartition(".")[0] for name in new)
    return start, replace(learning, train=rows, validation=rows, head=head)


def fit(
    kind: str, tune: Any, objective: Any, folder: Path, of_y: Any = classification, **change: Any
) -> tuple[Any, list[Any], dict[str, Any], dict[str, Any], Learning]:
    """Train; return the whole model, its losses (the first before training), weights before and
    after, and what it learned from.
    """
    from transformers import set_seed

    start, learning = begin(kind, of_y)
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    learning = minimising(start, learning, objective)
    set_seed(0)
    method = plugins.tune(tune.name)
    learner, learning = method.prepare(start, learning, tune)
    begun = loss_of(learner, learning)
    frozen = {id(value) for value in learner.parameters() if not value.requires_grad}
    entries = local.fit(learner, learning, replace(STEPS, tune=tune, **change), COMPUTE, folder)
    assert all(value.grad is None for value in learner.parameters() if id(value) in frozen)
    model = method.finish(learner)
    return model, [begun, *scored(entries)], before, model.state_dict(), learning


@cache
def teacher(of_y: Any = classification) -> Path:
    """Return the folder of a model that reads texts of numbers, as `refit reuse` brings one."""
    from transformers import BertTokenizer

    folder, labels = Path(tempfile.mkdtemp()), [] if of_y is regression else ["a", "b", "c"]
    model, _ = bert(1)
    if not labels:
        model.classifier, model.config.num_labels = torch_linear(16, 1), 1
    model.config.problem_type = of_y.KIND
    model.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(20))]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    modality = {"name": "text", "characters": [1, 9], "median_characters": [1, 9], "max_tokens": 8}
    name = of_y.__name__.rpartition(".")[2]
    Saved("other", modality, name, labels, Base("tiny", "0"), "0").write(folder / store.DESCRIBED)
    return folder


def torch_linear(width: int, outputs: int) -> Any:
    import torch

    return torch.nn.Linear(width, outputs)


def samples(rows: int) -> pd.DataFrame:
    """Return train rows of which the last two are copies of the first two."""
    ids = [str(i) for i in range(rows)]
    return pd.DataFrame({"id": ids, "source_id": [*ids[:-2], "0", "1"], "x": ids})


def minimising(start: Start, learning: Learning, objective: Any) -> Learning:
    """Return what to learn from, with the objective."""
    return plugins.objective(objective.name).prepare(start, learning, objective)


def scored(entries: list[Any]) -> list[float]:
    """Return the validation loss of each epoch: of the rows themselves, which train is."""
    return [entry.validation["loss"] for entry in entries if entry.validation]


def loss_of(model: Any, learning: Learning) -> float:
    """Return the same loss of a model that has not learned yet."""
    import torch

    rows = learning.collate([learning.validation[i] for i in range(len(learning.validation))])
    targets = rows.pop("labels")
    with torch.no_grad():
        return float(learning.loss(model.eval(), rows, targets)[0])


def combinations(kind: str) -> Iterator[Any]:
    """Yield every way to tune with every objective.

    `make test` takes each way and each objective once.
    """
    tunes = TUNES if kind == "text" else {name: TUNES[name] for name in ("full", "gradual")}
    for tune in tunes:
        for objective in OBJECTIVES if kind == "text" else PICTURED:
            if (tune, objective) == ("freeze", "copies") or (
                tune == "few_shot" and objective != "cross_entropy"
            ):  # params refuse them
                continue
            if tune in ("lora rslora", "lora dora", "ia3 stated") and objective != "cross_entropy":
                continue  # other settings of the same files
            once = "full" in tune or objective == "cross_entropy"
            yield pytest.param(tune, objective, marks=[] if once else pytest.mark.slow)


@pytest.mark.parametrize(("tune", "objective"), combinations("text"))
def test_a_text_model_memorises_and_predicts_the_same_once_saved(
    tmp_path: Path, tune: str, objective: str
) -> None:
    import torch

    model, seen, before, after, learning = fit(
        "text", TUNES[tune], OBJECTIVES[objective], tmp_path / "work",
        **slowly(tune, objective),
    )  # fmt: skip
    assert min(seen) < seen[0] or (tune in TOKENS and objective != "cross_entropy")
    if tune in TOKENS:
        after = model.get_base_model().state_dict()
    assert set(after) == set(before), "a plain model"
    moved = {name for name in before if not before[name].equal(after[name])}
    assert "classifier.weight" in moved and moved <= allowed(tune, set(before))
    loading.save(model, tmp_path / "model")
    again, _ = loading.load(classification, tmp_path / "model", "text", ["a", "b", "c"], False)
    assert adapters.is_in(tmp_path / "model") == (tune in TOKENS)
    again.eval()
    batch = rows_of_text().collate([rows_of_text().train.encoded[i] for i in range(4)])
    with torch.no_grad():
        for one, other in zip(model.eval()(**batch).logits, again(**batch).logits, strict=True):
            assert torch.allclose(one, other, atol=1e-6)
    assert len(learning.train) == (24 if tune == "few_shot" else 12)


def slowly(tune: str, objective: str) -> dict[str, Any]:
    """Return what tokens before a frozen base need; only once are they given the time to learn."""
    if tune not in TOKENS:
        return {}
    epochs = 25 if objective == "cross_entropy" else 3
    return {"learning_rate": 0.03, "head_learning_rate": 0.03, "epochs": epochs}


def allowed(tune: str, names: set[str]) -> set[str]:
    """Return the weights that a way to tune may move."""
    head = {name for name in names if name.startswith("classifier")}
    top = {name for name in names if ".layer.1." in name or "pooler" in name}
    ends = {
        "lora": ("query.weight", "value.weight"),
        "lora dora": ("query.weight",),
        "bitfit": ("bias",),
        "prompt": (),
        "p_tuning": (),
        "prefix": (),
        "ia3": ("key.weight", "value.weight", "output.dense.weight", "key.bias", "value.bias",
                "output.dense.bias"),
        "ia3 stated": ("key.weight", "key.bias", "output.dense.weight", "output.dense.bias"),
    }.get(tune)  # fmt: skip
    if tune == "freeze":
        return head | top
    return names if ends is None else head | {name for name in names if name.endswith(ends)}


@pytest.mark.slow
@pytest.mark.parametrize(("tune", "objective"), combinations("image"))
def test_a_picture_model_memorises(tmp_path: Path, tune: str, objective: str) -> None:
    _, seen, before, after, _ = fit("image", TUNES[tune], PICTURED[objective], tmp_path)
    assert min(seen) < seen[0]
    assert set(after) == set(before)


def test_frozen_layers_of_pictures_are_computed_once_whatever_the_memory_format(
    tmp_path: Path,
) -> None:
    import torch

    start, learning = begin("image")
    start.model.to(memory_format=torch.channels_last)
    learning = minimising(start, learning, OBJECTIVES["cross_entropy"])
    learner, fed = plugins.tune("freeze").prepare(start, learning, Freeze("freeze", 1))
    assert hasattr(learner, "whole") and "reached" in fed.train[0]
    assert local.fit(learner, fed, replace(STEPS, epochs=1), COMPUTE, tmp_path)
    assert list(tmp_path.glob("checkpoint-*/model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("objective", sorted({*OTHERS} - {"mixup", "cutmix"}))
@pytest.mark.parametrize("of_y", [multi_label, regression])
def test_several_labels_and_numbers_are_learned_too(
    tmp_path: Path, of_y: Any, objective: str
) -> None:
    import torch
    from transformers import set_seed

    start, learning = begin("text", of_y)
    outputs = 3 if of_y is multi_label else 1
    start = replace(start, labels=start.labels if outputs == 3 else [])
    start.model.classifier = torch.nn.Linear(16, outputs)
    start.model.config.num_labels = start.model.num_labels = outputs
    rows = learning.train
    targets = [[float(i % 3 == j) for j in range(outputs)] for i in range(len(rows))]
    if outputs == 1:
        targets = [float(i % 3) for i in range(len(rows))]
    rows = Rows(rows.encoded, targets, rows.lengths)
    set_seed(0)
    learning = replace(learning, train=rows, validation=rows, measure=lambda *_: {"macro_f1": 0.5})
    learning = minimising(start, learning, OTHERS[objective])
    begun = loss_of(start.model, learning)
    entries = local.fit(start.model, learning, replace(STEPS, epochs=3), COMPUTE, tmp_path)
    assert min(scored(entries)) < begun


SGD = types.Sgd("sgd", 0.9)
LOOPS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": SGD},
    "adafactor": {"optimizer": types.Adafactor("adafactor")},
    "one_cycle": {"schedule": "one_cycle"},
    "accumulation": {"accumulation": 2},
    "ema": {"averaging": types.Ema("ema", 0.8)},
    "ema of the last": {"averaging": types.Ema("ema", 0.8), "best_metric": "last"},
    "soup": {
        "averaging": types.Soup("soup"),
        "best_metric": "loss",
        "head_learning_rate": 0.5,
        "schedule": "constant_with_warmup",
        "epochs": 6,
    },
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "ema" else pytest.mark.slow) for name in LOOPS]
)
def test_a_loop_learns_and_one_that_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, name: str
) -> None:
    """Validation is of the rows that were learned, so a mean of weights shows in its loss."""
    change = {"epochs": 4, "head_learning_rate": 0.02} | LOOPS[name]
    tune, objective = TUNES["full"], OBJECTIVES["cross_entropy"]
    *_, plain, _ = fit("text", tune, objective, tmp_path / "plain", epochs=4,
                       head_learning_rate=0.02)  # fmt: skip
    model, seen, _, whole, learning = fit("text", tune, objective, tmp_path / "whole", **change)
    assert min(seen) < seen[0]
    assert any(not whole[of].equal(plain[of]) for of in whole), "the setting changes something"
    if name != "ema of the last":  # what is kept is what was measured
        assert loss_of(model, learning) == pytest.approx(min(seen), abs=1e-5)
    else:
        assert loss_of(model, learning) == pytest.approx(seen[-1], abs=1e-5)
    assert name != "soup" or len(seen) == 1 + 6 + 1, "the soup is better than any epoch"
    steps = {"accumulation": [2, 4, 6, 8]}.get(name, [3, 6, 9, 12])
    fit("text", tune, objective, tmp_path / "cut", **change)
    for checkpoint in (tmp_path / "cut").glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{steps[0]}":
            shutil.rmtree(checkpoint)
    *_, again, _ = fit("text", tune, objective, tmp_path / "cut", **change)
    assert all(whole[of].equal(again[of]) for of in whole)


def test_a_loss_that_is_no_number_says_at_which_step_and_rate(tmp_path: Path) -> None:
    start, learning = begin("text")
    learning = minimising(start, learning, OBJECTIVES["cross_entropy"])
    with pytest.raises(
        ModelError, match=r"not finite at step [2-9], with a learning rate of \d.*e\+\d+;"
    ):
        local.fit(
            start.model,
            learning,
            replace(STEPS, learning_rate=1e30, head_learning_rate=1e30, optimizer=SGD),
            COMPUTE,
            tmp_path,
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradual", "mixup", "freelb", "p_tuning", "few_shot"])
def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(tmp_path: Path, name: str) -> None:
    """What unfreezes by the epoch and what draws at random goes on where it was."""
    kind = "image" if name == "mixup" else "text"
    tune = TUNES.get(name, TUNES["full"])
    objective = PICTURED.get(name, PICTURED["cross_entropy"])
    *_, whole, _ = fit(kind, tune, objective, tmp_path / "whole", epochs=4)
    fit(kind, tune, objective, tmp_path / "cut", epochs=4)
    for checkpoint in sorted((tmp_path / "cut").glob("checkpoint-*"))[1:]:
        shutil.rmtree(checkpoint)
    kept = [*(tmp_path / "cut").glob("checkpoint-*")]
    *_, again, _ = fit(kind, tune, objective, tmp_path / "cut", epochs=4)
    assert len(kept) == 1
    assert all(whole[of].equal(again[of]) for of in whole)


def test_layers_begin_to_learn_in_turn_from_the_top_and_the_lower_the_slower() -> None:
    start, learning = begin("text")
    model, learning = plugins.tune("gradual").prepare(start, learning, Gradual("gradual", 2, 0.5))

    def learns(epoch: int) -> set[str]:
        learning.train.set_epoch(epoch)
        named = {name for name, value in model.named_parameters() if value.requires_grad}
        return {".".join(name.split(".")[:4]) for name in named}

    top, below = "bert.encoder.layer.1", "bert.encoder.layer.0"
    assert all(name.startswith(("classifier", "bert.pooler")) for name in learns(0) | learns(1))
    assert top in learns(2) and below not in learns(3)
    assert below in learns(4) and not any("embeddings" in name for name in learns(5))
    assert any("embeddings" in name for name in learns(6))
    groups = optimisers.optimiser(
        model, replace(STEPS, learning_rate=0.01, head_learning_rate=0.01), learning
    ).param_groups
    assert {group["lr"] for group in groups} == {0.01, 0.005, 0.0025, 0.00125}


def test_the_focal_loss_without_gamma_is_the_cross_entropy_and_with_it_less_of_what_is_sure() -> (
    None
):
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    logits, targets = torch.tensor([[4.0, 0.0, 0.0], [0.5, 0.0, 0.4]]), torch.tensor([0, 2])
    said = SequenceClassifierOutput(logits=logits)

    def loss(gamma: float) -> Any:
        of = plugins.objective("focal").prepare(*begin("text"), Focal("focal", gamma, "none"))
        return of.loss(lambda **_: said, {}, targets)[0]

    assert loss(0.0) == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item())
    p = logits.softmax(1)[[0, 1], targets]
    assert loss(2.0).item() == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item())


@pytest.mark.parametrize("norm", ["l2", "inf"])
def test_a_shift_is_as_large_as_it_may_be_and_raises_the_loss(norm: str) -> None:
    """Padding is not shifted, and nothing is left behind in the model."""
    import torch

    start, learning = begin("text", dropout=0.0)
    settings = Adversarial("adversarial", "pgd", norm, 0.1, 3, 0.5)  # pyright: ignore
    loss = minimising(start, learning, settings).loss
    batch = learning.collate([learning.train[i] for i in range(8)])
    targets = batch.pop("labels")
    given = list[Any]()
    table = start.model.get_input_embeddings()
    watch = table.register_forward_hook(lambda _, __, output: given.append(output))
    both, outputs = loss(start.model, batch, targets)
    watch.remove()
    clean = torch.nn.functional.cross_entropy(outputs.logits, targets)
    assert both > clean
    assert not table._forward_hooks
    with torch.no_grad():
        assert torch.isclose(loss(start.model, batch, targets)[0], clean)


@pytest.mark.parametrize("name", sorted(OBJECTIVES | PICTURED | OTHERS))
def test_without_a_gradient_it_is_the_loss_of_any_outputs(name: str) -> None:
    """So a head that was solved is measured at epoch 0."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    objective = (OBJECTIVES | PICTURED | OTHERS)[name]
    start, learning = begin("image" if name in ("mixup", "cutmix") else "text")
    targets = torch.tensor([0, 1, 2])
    loss = minimising(start, learning, objective).loss
    said = SequenceClassifierOutput(logits=torch.eye(3))
    with torch.no_grad():
        total, outputs = loss(lambda **_: said, {}, targets)
    assert outputs is said and torch.isfinite(total)
    if name not in ("cross_entropy", "focal"):  # they smooth, and count sure rows less
        plain = torch.nn.functional.cross_entropy(said.logits, targets)
        assert total.item() == pytest.approx(plain.item())


def test_mixtures_keep_to_their_shares() -> None:
    import torch

    from stages.methods.objective import mixup

    first, second = torch.zeros(4, 3, 10, 10), torch.ones(4, 3, 10, 10)
    for share in (0.0, 0.3, 0.75, 1.0):
        mixed, left = mixup._cut(first, second, share)
        assert mixed.mean().item() == pytest.approx(1 - left)
        assert left == pytest.approx(share, abs=0.11)


REFUSED: dict[str, tuple[str, Any, Any, str]] = {
    "layers of a model that it has not": ("text", Freeze("freeze", 9), None, "9 top layers"),
    "factors of an unknown architecture": (
        "image", Ia3("ia3", None, ()), None, "finetune.tune.targets"),
    "factors of no layer": (
        "text", Ia3("ia3", ("nothing",), ()), None, "finetune.tune.targets"),
    "no dropout": ("text", Full("full", True), OBJECTIVES["consistency"], "no dropout"),
    "more tokens than positions": ("text", Prompt("prompt", 600), None, "more than the 512"),
    "tokens before pictures": ("image", Prompt("prompt", 3), None, "peft cannot give"),
    "mixtures of frozen layers": (
        "image", Freeze("freeze", 1), Mixup("mixup", 0.2, False), "pictures are mixed before"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_says_why(tmp_path: Path, what: str) -> None:
    kind, tune, objective, fact = REFUSED[what]
    start, learning = begin(kind, dropout=0.0)
    objective = objective or OBJECTIVES["cross_entropy"]
    with pytest.raises(ModelError, match=fact):
        learning = minimising(start, learning, objective)
        learner, learning = plugins.tune(tune.name).prepare(start, learning, tune)
        local.fit(learner, learning, replace(STEPS, tune=tune), COMPUTE, tmp_path)
