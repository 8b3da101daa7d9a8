"""What learns and how: each setting of finetune changes the result of a real model.

The model is small enough to train in a second.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.contract import settings
from stages.contract.errors import ModelError
from stages.contract.history import Entry, kept, validated
from stages.contract.learning import Learning, Rows
from stages.contract.modality import Modality
from stages.contract.protocols import Start
from stages.methods import losses, memory, optimisers, prefix
from stages.methods.loop import local
from stages.methods.objective import cross_entropy
from stages.methods.training import _require_finite, _set_layers
from stages.methods.tune import freeze, full, linear_probe, lora
from stages.models import device, linear, pooling
from stages.params.compute import Compute
from stages.params.finetune import (
    CrossEntropy,
    Finetune,
    Freeze,
    Full,
    LinearProbe,
    Lora,
    RandomHead,
)
from stages.problems import classification
from tests.conftest import ROOT

FINETUNE = replace(
    settings.load(ROOT / "params.yaml").tasks["questions"].finetune,
    epochs=2,
    batch_size=4,
    learning_rate=0.01,
    head_learning_rate=0.01,
    head=RandomHead("random"),
    tune=Full("full", True),
)
COMPUTE = Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=8)


def bert(layers: int = 3) -> tuple[Any, frozenset[str]]:
    """Return a tiny BERT with a new head, and the names of the head's parameters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 50,
        "num_labels": 3,
    }
    model = BertForSequenceClassification(BertConfig(**shape))
    return model, frozenset({"classifier.weight", "classifier.bias"})


def learn(objective: CrossEntropy = FINETUNE.objective) -> Learning:
    """Return 24 rows of three labels, in unequal numbers, and of two lengths."""
    import torch

    encoded = [
        {
            "input_ids": [2, 5 + i % 30, 7, 3][: 4 - i % 2],
            "attention_mask": [1, 1, 1, 1][: 4 - i % 2],
        }
        for i in range(24)
    ]
    targets = [min(i % 4, 2) for i in range(24)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in batch)
        padded = {
            name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in batch])
            for name in ("input_ids", "attention_mask")
        }
        return padded | (
            {"labels": torch.tensor([row["labels"] for row in batch])}
            if "labels" in batch[0]
            else {}
        )

    def measure(logits: Any, targets: Any) -> dict[str, float]:
        return {"macro_f1": 0.5, "accuracy": float((logits.argmax(axis=1) == targets).mean())}

    lengths = [len(row["input_ids"]) for row in encoded]
    train, validation = Rows(encoded, targets, lengths), Rows(encoded[:8], targets[:8], lengths[:8])
    plain = losses.Plain(lambda *_: None)
    learning = Learning(train, validation, collate, plain, measure, metric="macro_f1")
    return cross_entropy.prepare(start(None, frozenset()), learning, objective)


def start(model: Any, new: frozenset[str], of_y: Any = classification, kind: str = "text") -> Start:
    """Return what a method begins with: a model for three labels."""
    labels, settings, samples = ["a", "b", "c"], SimpleNamespace(max_tokens=8), pd.DataFrame()
    return Start(
        Modality(kind), of_y, model, new, None, labels, settings, COMPUTE, samples, nowhere
    )


def nowhere(source: str) -> tuple[Path, str]:
    raise AssertionError(f"{source} was asked for")


def losing(objective: CrossEntropy, targets: list[int]) -> Callable[..., Any]:
    """Return the loss of logits, by an objective for these targets of all train rows."""
    from transformers.modeling_outputs import SequenceClassifierOutput

    rows = Rows([], targets, [])
    learning = replace(learn(), train=rows)
    loss = cross_entropy.prepare(start(None, frozenset()), learning, objective).loss

    def of_logits(logits: Any, labels: Any, items: Any = None) -> Any:
        said = SequenceClassifierOutput(logits=logits)
        total, outputs = loss(lambda **_: said, {}, labels, items)
        assert outputs is said
        return total

    return of_logits


def fitted(folder: Path, **change: Any) -> tuple[dict[str, Any], list[Entry]]:
    """Return the weights and history of a model that learned with the settings changed."""
    from transformers import set_seed

    finetune: Finetune = replace(FINETUNE, **change)
    model, new = bert(1)
    set_seed(0)
    learner, learning = full.prepare(
        start(model, new), learn(finetune.objective), Full("full", True)
    )
    # In a folder of its own, or it would go on from the last one's end.
    history = local.fit(learner, learning, finetune, COMPUTE, Path(tempfile.mkdtemp(dir=folder)))
    return {name: value.clone() for name, value in learner.state_dict().items()}, history


CHANGES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "constant_with_warmup"},
    "warmup": {"warmup": 0.5},
    "weight_decay": {"weight_decay": 0.5},
    "max_grad_norm": {"max_grad_norm": 0.001},
    "label_smoothing": {"objective": CrossEntropy("cross_entropy", 0.3, "none")},
    "class_weights": {"objective": CrossEntropy("cross_entropy", 0.0, "balanced")},
    "batch_size": {"batch_size": 8},
}


def test_the_same_settings_give_the_same_weights(tmp_path: Path) -> None:
    (first, _), (second, _) = fitted(tmp_path), fitted(tmp_path)
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_what_is_learned(tmp_path: Path, name: str) -> None:
    (plain, _), (changed, _) = fitted(tmp_path), fitted(tmp_path, **CHANGES[name])
    assert any(not plain[key].equal(changed[key]) for key in plain)


def test_gradients_are_clipped_to_their_norm_and_decay_shrinks_weights(tmp_path: Path) -> None:
    (plain, _), (decayed, _) = fitted(tmp_path), fitted(tmp_path, weight_decay=50.0)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert decayed[name].norm() < 0.5 * plain[name].norm()


def test_training_stops_early_after_so_many_epochs_without_a_better_one(tmp_path: Path) -> None:
    """The metric here never improves, and with steps of no size neither does the loss."""
    still = {"learning_rate": 1e-30, "head_learning_rate": 1e-30}
    _, stopped = fitted(tmp_path, epochs=6, early_stopping_patience=2, **still)
    assert [entry.epoch for entry in validated(stopped)] == [1, 2, 3]
    _, whole = fitted(tmp_path, epochs=4, early_stopping_patience=None)
    assert len(validated(whole)) == 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_is_torch_s_and_a_sum_over_accumulated_batches_is_the_mean(
    smoothing: float,
) -> None:
    import torch

    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = losing(CrossEntropy("cross_entropy", smoothing, "none"), [0, 1, 2])
    right = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss(logits, labels) == pytest.approx(right)
    assert loss(logits, labels, 6) == pytest.approx(right)


@pytest.mark.parametrize("stated", [None, 0.3])
def test_momentum_and_dropout_reach_every_layer_and_null_keeps_the_model_s_own(
    stated: float | None,
) -> None:
    import torch
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    model = MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.1, num_labels=3))
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    drops = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    own = {layer.momentum for layer in norms} | {layer.p for layer in drops}
    assert len(norms) > 30 and len(drops) == 1 and 0.3 not in own
    _set_layers(model, replace(FINETUNE, batchnorm_momentum=stated, dropout=stated))
    assert {layer.momentum for layer in norms} | {layer.p for layer in drops} == (
        {stated} if stated else own
    )
    before = norms[0].running_mean.clone()
    seen: list[Any] = []
    norms[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach().mean(dim=(0, 2, 3)))
    )
    model.train()(
        pixel_values=torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    )
    moved = norms[0].momentum * seen[0] + (1 - norms[0].momentum) * before
    assert torch.allclose(norms[0].running_mean, moved, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_balanced_class_weights_are_torch_s_and_count_every_label_alike(smoothing: float) -> None:
    """torch divides by the weights of a batch's rows, we by the number of its rows.

    Over all train rows, whose mean weight is 1, the two are equal.
    """
    import torch

    targets = [0] * 6 + [1] * 3 + [2]
    weights = torch.tensor([10 / (3 * 6), 10 / (3 * 3), 10 / 3])
    loss = losing(CrossEntropy("cross_entropy", smoothing, "balanced"), targets)

    def right(logits: Any, labels: Any, reduction: str) -> Any:
        return torch.nn.functional.cross_entropy(
            logits, labels, weight=weights, reduction=reduction, label_smoothing=smoothing
        )

    logits, labels = torch.randn(10, 3), torch.tensor(targets)
    assert loss(logits, labels) == pytest.approx(right(logits, labels, "mean"))
    some = logits[5:9]
    assert loss(some, labels[5:9]) == pytest.approx(right(logits[5:9], labels[5:9], "sum") / 4)
    assert loss(some, labels[5:9], 20) == pytest.approx(right(logits[5:9], labels[5:9], "sum") / 20)
    plain = losing(CrossEntropy("cross_entropy", 0.0, "none"), targets)
    by_label = [
        sum(float(plain(logits[i : i + 1], labels[i : i + 1])) for i in of)
        for of in ([*range(6)], [6, 7, 8], [9])
    ]
    if smoothing == 0:
        assert loss(logits, labels) == pytest.approx(
            sum(total / rows for total, rows in zip(by_label, (6, 3, 1), strict=True)) / 3
        )


def test_a_head_is_solved_on_what_reaches_it_and_is_what_scikit_learn_says() -> None:
    """The logits are scikit-learn's, by a pipeline with the C that makes validation likeliest."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(c: float, x: Any, y: Any) -> Any:
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=c, max_iter=1000, tol=1e-8)
        ).fit(x, y)

    def look(rows: Rows) -> tuple[Any, Any, Any]:
        batch = learning.collate([rows[i] for i in range(len(rows))])
        targets = batch.pop("labels")
        with torch.no_grad():
            return model.bert(**batch).pooler_output.numpy(), targets.numpy(), model(**batch).logits

    model, new = bert(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning, cs = learn(), (10.0, 1e-4, 0.1)
    learning = replace(
        learning,
        validation=replace(
            learning.validation, targets=[2, 2, 1, *learning.validation.targets[3:]]
        ),
    )
    begun = linear.begin(start(model, new), learning.train, learning, cs, balanced=False)
    (x, y, logits), (asked, targets, of_validation) = (
        look(learning.train),
        look(learning.validation),
    )
    right = min(
        (fitted(c, x, y) for c in cs),
        key=lambda of: log_loss(targets, of.predict_proba(asked), labels=[0, 1, 2]),
    )
    assert right.steps[-1][1].C == 0.1, "the others are worse by more than an error"
    assert np.allclose(torch.softmax(logits, 1).numpy(), right.predict_proba(x), atol=1e-3)
    assert {
        name for name, value in model.state_dict().items() if not value.equal(before[name])
    } == set(new)
    loss = torch.nn.functional.cross_entropy(of_validation, torch.tensor(targets))
    assert (begun.measured.epoch, begun.measured.validation["loss"]) == (
        0,
        pytest.approx(float(loss), abs=1e-4),
    )
    begun.learn_both(model)
    both = fitted(right.steps[-1][1].C, np.vstack([x, asked]), np.append(y, targets))
    assert np.allclose(
        torch.softmax(look(learning.train)[2], 1).numpy(), both.predict_proba(x), atol=1e-3
    )


def test_of_many_rows_validation_chooses_the_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows here are taken for many."""
    monkeypatch.setattr(linear, "FEW", 0)
    chosen = set[float]()
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        y = drawn.integers(0, 2, 60)
        x = drawn.normal(size=(60, 5)) + y[:, None]
        cs, (known, asked) = (0.01, 0.1, 1.0), (slice(0, 45), slice(45, 60))
        lost = {
            c: np.logaddexp(
                0,
                -np.diff(linear.solve(classification, x[known], y[known], 2, c).outputs(x[asked]))[
                    :, 0
                ]
                * (2 * y[asked] - 1),
            )
            for c in cs
        }
        c = linear.choose(classification, x[known], y[known], x[asked], y[asked], 2, cs)
        assert c == min(cs, key=lambda c: lost[c].mean())
        chosen.add(c)
    assert len(chosen) > 1


def test_of_few_rows_all_choose_the_strength() -> None:
    """Validation alone would choose the strength that learns next to nothing.

    It has six rows, whose labels are swapped.
    """
    chosen = list[float]()
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        y = drawn.integers(0, 2, 60)
        x = drawn.normal(size=(60, 5)) + 2 * y[:, None]
        known, asked = slice(0, 54), slice(54, 60)
        chosen.append(
            linear.choose(
                classification, x[known], y[known], x[asked], 1 - y[asked], 2, (1e-5, 0.1)
            )
        )
    assert chosen.count(0.1) > 15
    # A label of one row cannot be both learned and asked: validation chooses.
    one = np.append(y[known], 2)
    assert (
        linear.choose(
            classification,
            np.vstack([x[known], x[:1]]),
            one,
            x[asked],
            1 - y[asked],
            3,
            (1e-5, 0.1),
        )
        == 1e-5
    )


def test_two_labels_are_solved_as_well_and_balanced_ones_weigh_alike() -> None:
    drawn = np.random.default_rng(0)
    y = np.array([0] * 90 + [1] * 10)
    known = drawn.normal(size=(100, 3)) + y[:, None]
    plain, even = (
        linear.solve(classification, known, y, 2, 1.0, balanced) for balanced in (False, True)
    )
    predicted = [int(of.outputs(known).argmax(1).sum()) for of in (plain, even)]
    assert predicted[0] < predicted[1] < 50
    assert np.allclose(plain.weights[0], -plain.weights[1])


def test_a_linear_probe_learns_nothing_by_steps_and_a_head_of_several_layers_is_refused(
    tmp_path: Path,
) -> None:
    model, new = bert(1)
    begun = Entry(0.0, 0, {}, {"loss": 1.0, "macro_f1": 0.5})
    learner, learning = linear_probe.prepare(
        start(model, new), replace(learn(), begun=begun), LinearProbe("linear_probe")
    )
    assert linear_probe.finish(learner) is model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert local.fit(learner, learning, FINETUNE, COMPUTE, tmp_path) == [begun]
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    with pytest.raises(
        ModelError, match=r"is not one linear layer \(bert.pooler.dense, classifier\)"
    ):
        linear.head(model, new | {"bert.pooler.dense.weight"})
    with pytest.raises(ValueError, match="nothing but head"):
        replace(FINETUNE, tune=LinearProbe("linear_probe"))


def test_a_training_that_learned_nothing_in_its_first_epoch_or_has_no_finite_loss_is_stopped(
    tmp_path: Path,
) -> None:
    asked = list[int]()

    def require(logits: Any, _: Any) -> None:
        asked.append(len(logits))
        raise ModelError("in vain")

    def no_number(model: Any, inputs: Any, *_: Any) -> tuple[Any, Any]:
        outputs = model(**inputs)
        return outputs.logits.sum() * float("nan"), outputs

    with pytest.raises(ModelError, match="in vain"):
        local.fit(bert(1)[0], replace(learn(), require=require), FINETUNE, COMPUTE, tmp_path)
    assert asked == [8]
    with pytest.raises(ModelError, match="the loss is not finite"):
        local.fit(
            bert(1)[0],
            replace(learn(), loss=no_number),
            FINETUNE,
            COMPUTE,
            tmp_path / "other",
        )


@pytest.mark.parametrize("measured", [{"loss": float("nan")}, {"loss": 0.1, "r2": float("-inf")}])
def test_a_validation_that_is_no_number_is_never_handed_on(measured: dict[str, float]) -> None:
    _require_finite("tiny", [Entry(1.0, 1, {}, {"loss": 0.1})])
    with pytest.raises(ModelError, match="tasks.tiny.finetune: the loss is not finite"):
        _require_finite("tiny", [Entry(1.0, 1, {"loss": 0.1}, {}), Entry(1.0, 1, {}, measured)])


@pytest.mark.parametrize(
    ("learned", "rows", "stopped"), [(0.0, 1000, True), (0.3, 1000, False), (0.0, 100, False)]
)
def test_chance_is_told_from_little_where_rows_are_enough(
    learned: float, rows: int, stopped: bool
) -> None:
    """The guesses are sure and follow uneven labels: by chance one in six draws passes."""
    found = list[bool]()
    for seed in range(40):
        drawn = np.random.default_rng(seed)
        y, guessed = (drawn.choice(3, rows, p=[0.7, 0.2, 0.1]) for _ in range(2))
        found.append(
            classification.at_chance(
                y, 3 * np.eye(3)[np.where(drawn.random(rows) < learned, y, guessed)]
            )
        )
    assert sum(found) > 25 if stopped else not any(found)


def test_one_label_for_all_is_chance_unless_its_probability_tells_rows_apart() -> None:
    y = np.array([0] * 240 + [1] * 60)
    assert classification.at_chance(y, np.tile([2.0, 0.0], (300, 1)))
    assert not classification.at_chance(
        y, np.stack([np.where(y, 0.2, 2.0), np.zeros(300)], axis=1)
    ), "a first epoch has begun to learn"


@pytest.mark.parametrize("metric", ["macro_f1", "loss", "last"])
@pytest.mark.parametrize("better", [True, False])
def test_where_no_epoch_is_better_the_model_stays_as_it_began(
    tmp_path: Path, metric: Any, better: bool
) -> None:
    from transformers import set_seed

    model, _ = bert(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    set_seed(0)
    loss, macro_f1 = (9.0, 0.1) if better else (0.0, 0.9)
    begun = Entry(0.0, 0, {}, {"loss": loss, "macro_f1": macro_f1})
    history = local.fit(
        model,
        replace(learn(), begun=begun),
        replace(FINETUNE, best_metric=metric),
        COMPUTE,
        tmp_path,
    )
    assert history[0] is begun and len(validated(history)) == 3
    assert (
        all(value.equal(before[name]) for name, value in model.state_dict().items()) is not better
    )
    assert (kept(history, metric, "macro_f1").epoch > 0) is better


def test_the_head_has_a_learning_rate_of_its_own_whatever_a_method_wraps_it_in() -> None:
    model, new = bert(1)
    learner, _ = lora.prepare(
        start(model, new), learn(), Lora("lora", 4, 8.0, 0.0, ("query",), False, False)
    )
    groups = optimisers.optimiser(
        learner,
        replace(FINETUNE, learning_rate=1e-4, head_learning_rate=1e-2),
        replace(learn(), head=frozenset({"classifier"})),
    ).param_groups
    names = {of: name for name, of in learner.named_parameters()}
    fast = {names[of] for group in groups for of in group["params"] if group["lr"] == 1e-2}
    slow = {names[of] for group in groups for of in group["params"] if group["lr"] == 1e-4}
    assert fast and all("classifier" in name for name in fast)
    assert slow and all("lora_" in name for name in slow)


def test_a_bert_that_sees_the_mean_is_saved_as_a_plain_one_that_says_the_same(
    tmp_path: Path,
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    model, _ = bert(2)
    pooling.by_mean(model)
    for weights in model.classifier.parameters():
        weights.data.normal_(generator=torch.Generator().manual_seed(0))
    learning = learn()
    batch = learning.collate([{**learning.train.encoded[i]} for i in range(8)])
    alone = learning.collate([{**learning.train.encoded[1]}])
    model.eval()
    with torch.no_grad():
        logits, states = model(**batch).logits, model.bert(**batch).last_hidden_state
        assert torch.allclose(model(**alone).logits, logits[1:2], atol=1e-5), (
            "padding is no part of the mean"
        )
        mean = torch.nn.functional.layer_norm(states[1, :3].mean(0), (16,))
        assert torch.allclose(model.classifier(mean), logits[1], atol=1e-5)
        pooling.plain(model).save_pretrained(tmp_path)
        again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        assert torch.allclose(again(**batch).logits, logits, atol=0.02)
    assert pooling.plain(again) is again


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        ({}, False),
        ({"README.md": "It is pooled by cls_pooling."}, False),
        ({"README.md": "#Mean Pooling - take the mask into account"}, True),
        (
            {
                "README.md": (
                    "(1): Pooling({'pooling_mode_cls_token': False, "
                    "'pooling_mode_mean_tokens': True})"
                )
            },
            True,
        ),
        (
            {
                "README.md": "mean pooling",
                "1_Pooling/config.json": (
                    '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
                ),
            },
            False,
        ),
        ({"1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}'}, True),
    ],
)
def test_a_base_model_says_whether_it_was_trained_on_the_mean(
    tmp_path: Path, files: dict[str, str], stated: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert pooling.is_stated(tmp_path) is stated


def test_freeze_lets_the_top_layers_learn_and_what_stands_above_them() -> None:
    model, new = bert(3)
    freeze.prepare(start(model, new), learn(), Freeze("freeze", 1))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("bert.encoder.layer.2.", "bert.pooler", "classifier"))
    }
    with pytest.raises(ModelError, match="4 top layers are to learn, and the base model has 3"):
        freeze.prepare(start(model, new), learn(), Freeze("freeze", 4))


def frozen(folder: Path) -> tuple[Any, Any]:
    """Return what learned, and the whole model, of a BERT of three layers whose top one learns."""
    from transformers import set_seed

    model, new = bert(3)
    set_seed(0)
    learner, learning = freeze.prepare(start(model, new), learn(), Freeze("freeze", 1))
    for module in model.modules():
        if module.__class__.__name__ == "Dropout":
            module.p = 0.0  # otherwise what learns would draw anew
    local.fit(learner, learning, FINETUNE, COMPUTE, folder)
    return learner, freeze.finish(learner)


def test_frozen_layers_are_computed_once_and_give_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    calls = list[int]()
    original = transformers_layer().forward
    monkeypatch.setattr(
        transformers_layer(),
        "forward",
        lambda self, *given, **named: calls.append(1) or original(self, *given, **named),
    )
    learner, model = frozen(tmp_path / "cut")
    cut = len(calls)
    assert learner is not model and all(
        "forward" not in vars(layer) for layer in model.bert.encoder.layer
    )
    monkeypatch.setattr(prefix, "ROOM", 0)
    plain, same = frozen(tmp_path / "plain")
    assert plain is same
    assert cut < len(calls) - cut, "layers below ran for each step"
    assert all(
        torch.allclose(of, same.state_dict()[name], atol=1e-4)
        for name, of in model.state_dict().items()
    )
    assert not torch.allclose(model.classifier.weight, bert(3)[0].classifier.weight, atol=1e-3)


def test_what_is_frozen_stays_in_evaluation_mode_and_what_learns_does_not() -> None:
    model, new = bert(3)
    learner, _ = freeze.prepare(start(model, new), learn(), Freeze("freeze", 1))
    learner.train()
    assert [layer.training for layer in model.bert.encoder.layer] == [False, False, True]
    assert not model.bert.embeddings.dropout.training and model.dropout.training


def test_rows_that_are_altered_anew_and_models_with_a_way_around_run_whole_at_each_step() -> None:
    class Anew(list[dict[str, Any]]):
        anew = True

    learning = learn()
    anew = replace(learning, train=replace(learning.train, encoded=Anew(learning.train.encoded)))  # pyright: ignore[reportArgumentType]
    for around, rows in ((False, anew), (True, learning)):
        model, new = bert(3)
        if around:
            first = list[Any]()
            # What goes around then differs from what the embeddings say.
            model.bert.encoder.layer[0].output.LayerNorm.weight.data *= -5
            model.bert.encoder.layer[0].register_forward_hook(
                lambda *given, first=first: first.append(given[2])
            )
            model.bert.encoder.register_forward_hook(
                lambda _, __, output, first=first: type(output)(
                    last_hidden_state=output[0] + first[-1]
                )
            )
        assert freeze.prepare(start(model, new), rows, Freeze("freeze", 1)) == (model, rows)
        assert all("forward" not in vars(layer) for layer in model.bert.encoder.layer)


def transformers_layer() -> Any:
    from transformers.models.bert.modeling_bert import BertLayer

    return BertLayer


def test_lora_moves_its_targets_and_merges_to_what_it_computed() -> None:
    import torch

    model, new = bert(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learner, _ = lora.prepare(
        start(model, new), learn(), Lora("lora", 4, 8.0, 0.0, ("query",), False, False)
    )
    assert {
        name.split(".lora_")[-1][:1]
        for name, p in learner.named_parameters()
        if p.requires_grad and "lora_" in name
    } == {"A", "B"}
    torch.manual_seed(1)
    for name, parameter in learner.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    ids = torch.tensor([[2, 5, 3]])
    with torch.no_grad():
        computed = learner.eval()(input_ids=ids).logits
        whole = lora.finish(learner).eval()
        assert torch.allclose(whole(input_ids=ids).logits, computed, atol=1e-5)
    after = whole.state_dict()
    assert set(after) == set(before)
    assert {name for name in before if not before[name].equal(after[name])} == {
        f"bert.encoder.layer.{i}.attention.self.query.weight" for i in (0, 1)
    }


@pytest.mark.parametrize("targets", [("query", "valeu"), ("nothing",)])
def test_lora_refuses_a_target_that_the_base_model_has_not(targets: tuple[str, ...]) -> None:
    model, new = bert(1)
    with pytest.raises(ModelError, match=f"has no layer {targets[-1]}"):
        lora.prepare(start(model, new), learn(), Lora("lora", 4, 8.0, 0.0, targets, False, False))


def test_lora_takes_all_linear_layers_but_the_head() -> None:
    model, new = bert(1)
    learner, _ = lora.prepare(
        start(model, new), learn(), Lora("lora", 2, 4.0, 0.0, "all-linear", False, False)
    )
    updated = {name for name, _ in learner.named_parameters() if "lora_A" in name}
    assert any("intermediate" in name for name in updated)
    assert not any("classifier" in name for name in updated)


def test_a_step_that_does_not_fit_into_memory_is_refused_with_the_batch_that_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, _ = bert(1)
    before, learning = {name: of.clone() for name, of in model.state_dict().items()}, learn()
    memory.require(model, learning, 4, COMPUTE, 2)  # what this machine has is enough
    held = memory._kept_bytes(
        model, {"input_ids": learning.collate([learning.train[0]])["input_ids"]}, COMPUTE
    )
    fixed = 3 * sum(4 * of.numel() for of in model.parameters())
    monkeypatch.setattr(device, "free_memory", lambda: fixed + 10 * held)
    with pytest.raises(
        ModelError,
        match=(
            r"finetune.batch_size: a step of 1,000 rows takes 0\.\d GiB or more, "
            r"and 0\.0 GiB are free; at most (9|10) rows fit"
        ),
    ):
        memory.require(model, learning, 1000, COMPUTE, 2)
    monkeypatch.setattr(device, "free_memory", lambda: fixed)
    with pytest.raises(ModelError, match="not one row fits"):
        local.fit(model, learning, FINETUNE, COMPUTE, tmp_path)
    assert all(of.equal(before[name]) for name, of in model.state_dict().items())


def test_matrices_decay_and_biases_and_norms_do_not() -> None:
    model, _ = bert(1)
    model.bert.embeddings.requires_grad_(False)
    stays, decays = sorted(
        optimisers.optimiser(model, replace(FINETUNE, weight_decay=0.5), learn()).param_groups,
        key=lambda of: of["weight_decay"],
    )
    names = {of: name for name, of in model.named_parameters()}
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.5, 0.0)
    assert {names[of].rpartition(".")[2] for of in decays["params"]} == {"weight"}
    assert not any("LayerNorm" in names[of] or "embeddings" in names[of] for of in decays["params"])
    assert all("bias" in names[of] or "LayerNorm" in names[of] for of in stays["params"])
    assert len(decays["params"]) + len(stays["params"]) == sum(
        of.requires_grad for of in model.parameters()
    )


def test_the_last_epoch_is_kept_where_it_is_asked_for_whatever_validation_says(
    tmp_path: Path,
) -> None:
    def kept(metric: str) -> dict[str, Any]:
        from transformers import set_seed

        scores = iter([0.9, 0.5, 0.1])
        model, _ = bert(1)
        set_seed(0)
        falling = replace(learn(), measure=lambda *_: {"macro_f1": next(scores)})
        local.fit(
            model,
            falling,
            replace(FINETUNE, best_metric=metric, epochs=3),
            COMPUTE,
            Path(tempfile.mkdtemp(dir=tmp_path)),
        )
        return {name: of.clone() for name, of in model.state_dict().items()}

    last, best = kept("last"), kept("macro_f1")
    assert any(not of.equal(best[name]) for name, of in last.items())
    # If the metric stays the same, the least loss is kept, which is the last here.
    undisturbed, history = fitted(tmp_path, epochs=3)
    assert validated(history)[-1].epoch == 3
    assert all(of.equal(undisturbed[name]) for name, of in last.items())
    with pytest.raises(ValueError, match="early_stopping_patience"):
        replace(FINETUNE, best_metric="last", early_stopping_patience=2)


def test_auto_is_bfloat16_where_the_processor_has_it_by_its_flags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    auto = replace(COMPUTE, dtype="auto")
    for flags, expected in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_f": True, "avx512_bf16": False}, "float32"),
        ({}, "float32"),
    ):
        monkeypatch.setattr(device, "find", lambda: "cpu")
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert device.dtype(auto) == expected
        assert device.dtype(COMPUTE) == "float32"


def test_batches_hold_as_many_tokens_as_a_batch_of_the_longest_rows() -> None:
    lengths = [3, 9, 1, 10, 2, 2, 5]
    encoded = [{"input_ids": [i] * of} for i, of in enumerate(lengths)]
    found = [
        sorted(batch.tolist()) for batch, _ in device.batches(encoded, lengths, lambda rows: {}, 2)
    ]
    assert sorted(chain.from_iterable(found)) == list(range(7))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 20 for batch in found)
    assert max(map(len, found)) > 2
    assert list(device.batches([], [], lambda rows: {}, 2)) == []


@pytest.mark.parametrize("frozen", [False, True])
def test_a_strided_depthwise_convolution_hands_its_gradient_down_in_float32_and_a_frozen_one_stays_in_bfloat16(  # noqa: E501
    monkeypatch: pytest.MonkeyPatch,
    frozen: bool,
) -> None:
    import torch

    monkeypatch.setattr(device, "find", lambda: "cpu")
    torch.manual_seed(0)
    layer, pixels = (
        torch.nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False),
        torch.randn(2, 8, 9, 9).bfloat16().requires_grad_(not frozen),
    )
    exactly = torch.nn.functional.conv2d(pixels.float(), layer.weight, stride=2, groups=8)
    half = replace(COMPUTE, dtype="bfloat16")
    device.avoid_slow_kernels(torch.nn.Sequential(layer), half)
    with device.arithmetic(half):
        given = layer(pixels)
    assert given.dtype == torch.bfloat16
    assert torch.equal(given, exactly.bfloat16()) is not frozen, (
        "a weight that was rounded first gives something else"
    )
    assert layer.state_dict().keys() == {"weight"}
    if not frozen:
        down = torch.randn_like(given)
        here, there = (
            torch.autograd.grad(of, pixels, down.to(of.dtype), retain_graph=True)[0]
            for of in (given, exactly)
        )
        assert torch.equal(here, there)
