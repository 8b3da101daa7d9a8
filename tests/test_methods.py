"""What learns and how: each setting of finetune changes what it says, on a real model small enough to train in a second."""

import tempfile
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from stages import device
from stages.contract import settings
from stages.contract.errors import ModelError
from stages.contract.params import Compute, CrossEntropy, Finetune, Freeze, Full, LinearProbe, Lora
from stages.contract.plugins import Learning, Rows
from stages.finetune import _set_layers
from stages.methods import memory, prefix
from stages.methods.loop import local
from stages.methods.objective import cross_entropy
from stages.methods.tune import freeze, full, linear_probe, lora
from tests.conftest import ROOT

FINETUNE = replace(settings.load(ROOT / "params.yaml").tasks["questions"].finetune, epochs=2, batch_size=4, learning_rate=0.01, tune=Full("full", True))
COMPUTE = Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=8)


def bert(layers: int = 3) -> tuple[Any, frozenset[str]]:
    """Return a tiny BERT with a new head, and the names of the head's parameters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50, "num_labels": 3}
    model = BertForSequenceClassification(BertConfig(**shape))
    return model, frozenset({"classifier.weight", "classifier.bias"})


def learn(objective: CrossEntropy = FINETUNE.objective) -> Learning:
    """Return 24 rows of three labels, not equally many of each, and of two lengths."""
    import torch

    encoded = [{"input_ids": [2, 5 + i % 30, 7, 3][: 4 - i % 2], "attention_mask": [1, 1, 1, 1][: 4 - i % 2]} for i in range(24)]
    targets = [min(i % 4, 2) for i in range(24)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in batch)
        padded = {name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in batch]) for name in ("input_ids", "attention_mask")}
        return padded | ({"labels": torch.tensor([row["labels"] for row in batch])} if "labels" in batch[0] else {})

    def measure(logits: Any, targets: Any) -> dict[str, float]:
        return {"macro_f1": 0.5, "accuracy": float((logits.argmax(axis=1) == targets).mean())}

    lengths = [len(row["input_ids"]) for row in encoded]
    train, validation = Rows(encoded, targets, lengths), Rows(encoded[:8], targets[:8], lengths[:8])
    return Learning(train, validation, collate, cross_entropy.loss(objective, targets), measure)


def fitted(folder: Path, **change: Any) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Return the weights and the history of a model that has learned with the settings changed."""
    from transformers import set_seed

    finetune: Finetune = replace(FINETUNE, **change)
    model, new = bert(1)
    set_seed(0)
    learner, learning = full.prepare(model, new, learn(finetune.objective), Full("full", True))
    history = local.fit(learner, learning, finetune, COMPUTE, Path(tempfile.mkdtemp(dir=folder)))  # or it would go on from the last one's end
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
    """The metric here never gets better than at first, and with steps of no size neither does the loss."""
    epochs = [entry["epoch"] for entry in fitted(tmp_path, epochs=6, early_stopping_patience=2, learning_rate=1e-30)[1] if "eval_loss" in entry]
    assert epochs == [1, 2, 3]
    assert len([1 for entry in fitted(tmp_path, epochs=4, early_stopping_patience=None)[1] if "eval_loss" in entry]) == 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_is_torch_s_and_a_sum_over_accumulated_batches_is_the_mean(smoothing: float) -> None:
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = cross_entropy.loss(CrossEntropy("cross_entropy", smoothing, "none"), [0, 1, 2])
    right = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss(SequenceClassifierOutput(logits=logits), labels) == pytest.approx(right)
    assert loss(SequenceClassifierOutput(logits=logits), labels, 6) == pytest.approx(right)


@pytest.mark.parametrize("stated", [None, 0.3])
def test_momentum_and_dropout_reach_every_layer_and_null_keeps_the_model_s_own(stated: float | None) -> None:
    import torch
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    model = MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.1, num_labels=3))
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    drops = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    own = {layer.momentum for layer in norms} | {layer.p for layer in drops}
    assert len(norms) > 30 and len(drops) == 1 and 0.3 not in own
    _set_layers(model, replace(FINETUNE, batchnorm_momentum=stated, dropout=stated))
    assert {layer.momentum for layer in norms} | {layer.p for layer in drops} == ({stated} if stated else own)
    before = norms[0].running_mean.clone()
    seen: list[Any] = []
    norms[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().mean(dim=(0, 2, 3))))
    model.train()(pixel_values=torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    moved = norms[0].momentum * seen[0] + (1 - norms[0].momentum) * before
    assert torch.allclose(norms[0].running_mean, moved, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_balanced_class_weights_are_torch_s_and_count_every_label_alike(smoothing: float) -> None:
    """torch divides by the weights of a batch's rows, we by its rows: over all train rows, whose mean weight is 1, the two are equal."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    targets = [0] * 6 + [1] * 3 + [2]
    weights = torch.tensor([10 / (3 * 6), 10 / (3 * 3), 10 / 3])
    loss = cross_entropy.loss(CrossEntropy("cross_entropy", smoothing, "balanced"), targets)

    def right(logits: Any, labels: Any, reduction: str) -> Any:
        return torch.nn.functional.cross_entropy(logits, labels, weight=weights, reduction=reduction, label_smoothing=smoothing)

    logits, labels = torch.randn(10, 3), torch.tensor(targets)
    outputs = SequenceClassifierOutput(logits=logits)
    assert loss(outputs, labels) == pytest.approx(right(logits, labels, "mean"))
    some = SequenceClassifierOutput(logits=logits[5:9])
    assert loss(some, labels[5:9]) == pytest.approx(right(logits[5:9], labels[5:9], "sum") / 4)
    assert loss(some, labels[5:9], 20) == pytest.approx(right(logits[5:9], labels[5:9], "sum") / 20)
    plain = cross_entropy.loss(CrossEntropy("cross_entropy", 0.0, "none"), targets)
    by_label = [sum(float(plain(SequenceClassifierOutput(logits=logits[i : i + 1]), labels[i : i + 1])) for i in of) for of in ([*range(6)], [6, 7, 8], [9])]
    if smoothing == 0:
        assert loss(outputs, labels) == pytest.approx(sum(total / rows for total, rows in zip(by_label, (6, 3, 1), strict=True)) / 3)


def test_a_linear_probe_learns_on_the_features_that_reach_its_head_and_gives_the_whole_model_back(tmp_path: Path) -> None:
    import torch

    model, new = bert(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = learn()
    probe, reduced = linear_probe.prepare(model, new, learning, LinearProbe("linear_probe"))
    assert {name for name, parameter in probe.named_parameters() if parameter.requires_grad} == {"head.weight", "head.bias"}
    assert len(reduced.train) == 24 and len(reduced.validation) == 8 and len(set(reduced.train.lengths)) == 1

    def logits(rows: Rows) -> Any:
        batch = learning.collate([rows.encoded[i] for i in range(len(rows))])
        with torch.no_grad():
            return model.eval()(**batch).logits

    def of_features(rows: Rows) -> Any:
        with torch.no_grad():
            return probe(reduced.collate([rows[i] for i in range(len(rows))])["features"]).logits

    assert torch.allclose(of_features(reduced.train), logits(learning.train), atol=1e-6)
    history = local.fit(probe, reduced, FINETUNE, COMPUTE, tmp_path)
    assert torch.allclose(of_features(reduced.validation), logits(learning.validation), atol=1e-6)

    whole = linear_probe.finish(probe)
    assert whole is model
    assert {name for name, value in whole.state_dict().items() if not value.equal(before[name])} == {"classifier.weight", "classifier.bias"}
    whole.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model").eval()
    batch = learning.collate([learning.validation[i] for i in range(8)])
    with torch.no_grad():
        found = again(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
    assert found.equal(logits(learning.validation))
    first, *others = [entry for entry in history if "eval_loss" in entry]  # macro_f1 stays as it was, so the least loss is kept
    least = min(first["eval_loss"], *(entry["eval_loss"] for entry in others))
    assert least < first["eval_loss"]
    assert float(torch.nn.functional.cross_entropy(found, batch["labels"])) == pytest.approx(least)
    assert not any(local.MERIT in entry for entry in history)


def test_a_linear_probe_of_a_head_of_several_modules_runs_the_frozen_base_at_each_step() -> None:
    model, new = bert(1)
    learner, learning = linear_probe.prepare(model, new | {"bert.pooler.dense.weight"}, given := learn(), LinearProbe("linear_probe"))
    assert learner is model and learning is given
    learner.train()
    assert not learner.base_model.training and learner.classifier.training
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {*new, "bert.pooler.dense.weight"}
    assert linear_probe.finish(learner) is model


def test_freeze_lets_the_top_layers_learn_and_what_stands_above_them() -> None:
    model, new = bert(3)
    freeze.prepare(model, new, learn(), Freeze("freeze", 1))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if name.startswith(("bert.encoder.layer.2.", "bert.pooler", "classifier"))}
    with pytest.raises(ModelError, match="4 top layers are to learn, and the base model has 3"):
        freeze.prepare(model, new, learn(), Freeze("freeze", 4))


def frozen(folder: Path) -> tuple[Any, Any]:
    """Return what learned, and the model made whole again, of a BERT of three layers whose top one learns."""
    from transformers import set_seed

    model, new = bert(3)
    set_seed(0)
    learner, learning = freeze.prepare(model, new, learn(), Freeze("freeze", 1))
    for module in model.modules():
        if module.__class__.__name__ == "Dropout":
            module.p = 0.0  # what learns would draw anew
    local.fit(learner, learning, FINETUNE, COMPUTE, folder)
    return learner, freeze.finish(learner)


def test_frozen_layers_are_computed_once_and_give_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    calls = list[int]()
    original = transformers_layer().forward
    monkeypatch.setattr(transformers_layer(), "forward", lambda self, *given, **named: calls.append(1) or original(self, *given, **named))
    learner, model = frozen(tmp_path / "cut")
    cut = len(calls)
    assert learner is not model and all("forward" not in vars(layer) for layer in model.bert.encoder.layer)
    monkeypatch.setattr(prefix, "ROOM", 0)
    plain, same = frozen(tmp_path / "plain")
    assert plain is same
    assert cut < len(calls) - cut, "layers below ran for each step"
    assert all(torch.allclose(of, same.state_dict()[name], atol=1e-4) for name, of in model.state_dict().items())
    assert not torch.allclose(model.classifier.weight, bert(3)[0].classifier.weight, atol=1e-3)


def test_what_is_frozen_stays_in_evaluation_mode_and_what_learns_does_not() -> None:
    model, new = bert(3)
    learner, _ = freeze.prepare(model, new, learn(), Freeze("freeze", 1))
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
            model.bert.encoder.layer[0].output.LayerNorm.weight.data *= -5  # what goes around is not what the embeddings say
            model.bert.encoder.layer[0].register_forward_hook(lambda *given, first=first: first.append(given[2]))
            model.bert.encoder.register_forward_hook(lambda _, __, output, first=first: type(output)(last_hidden_state=output[0] + first[-1]))
        assert freeze.prepare(model, new, rows, Freeze("freeze", 1)) == (model, rows)
        assert all("forward" not in vars(layer) for layer in model.bert.encoder.layer)


def transformers_layer() -> Any:
    from transformers.models.bert.modeling_bert import BertLayer

    return BertLayer


def test_lora_moves_its_targets_and_merges_to_what_it_computed() -> None:
    import torch

    model, new = bert(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learner, _ = lora.prepare(model, new, learn(), Lora("lora", 4, 8.0, 0.0, ("query",)))
    assert {name.split(".lora_")[-1][:1] for name, p in learner.named_parameters() if p.requires_grad and "lora_" in name} == {"A", "B"}
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
    assert {name for name in before if not before[name].equal(after[name])} == {f"bert.encoder.layer.{i}.attention.self.query.weight" for i in (0, 1)}


@pytest.mark.parametrize("targets", [("query", "valeu"), ("nothing",)])
def test_lora_refuses_a_target_that_the_base_model_has_not(targets: tuple[str, ...]) -> None:
    model, new = bert(1)
    with pytest.raises(ModelError, match=f"has no layer {targets[-1]}"):
        lora.prepare(model, new, learn(), Lora("lora", 4, 8.0, 0.0, targets))


def test_lora_takes_all_linear_layers_but_the_head() -> None:
    model, new = bert(1)
    learner, _ = lora.prepare(model, new, learn(), Lora("lora", 2, 4.0, 0.0, "all-linear"))
    updated = {name for name, _ in learner.named_parameters() if "lora_A" in name}
    assert any("intermediate" in name for name in updated)
    assert not any("classifier" in name for name in updated)


def test_a_step_that_does_not_fit_into_memory_is_refused_with_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, _ = bert(1)
    before, learning = {name: of.clone() for name, of in model.state_dict().items()}, learn()
    memory.require(model, learning, 4, COMPUTE)  # what this machine has is enough
    held = memory._kept_bytes(model, {"input_ids": learning.collate([learning.train[0]])["input_ids"]}, COMPUTE)
    fixed = 3 * sum(4 * of.numel() for of in model.parameters())
    monkeypatch.setattr(device, "free_memory", lambda: fixed + 10 * held)
    with pytest.raises(ModelError, match=r"finetune.batch_size: a step of 1,000 rows takes 0\.\d GiB or more, and 0\.0 GiB are free; at most (9|10) rows fit"):
        memory.require(model, learning, 1000, COMPUTE)
    monkeypatch.setattr(device, "free_memory", lambda: fixed)
    with pytest.raises(ModelError, match="not one row fits"):
        local.fit(model, learning, FINETUNE, COMPUTE, tmp_path)
    assert all(of.equal(before[name]) for name, of in model.state_dict().items())


def test_matrices_decay_and_biases_and_norms_do_not() -> None:
    model, _ = bert(1)
    model.bert.embeddings.requires_grad_(False)
    decays, stays = local.optimizer(model, replace(FINETUNE, weight_decay=0.5)).param_groups
    names = {of: name for name, of in model.named_parameters()}
    assert (decays["weight_decay"], stays["weight_decay"]) == (0.5, 0.0)
    assert {names[of].rpartition(".")[2] for of in decays["params"]} == {"weight"}
    assert not any("LayerNorm" in names[of] or "embeddings" in names[of] for of in decays["params"])
    assert all("bias" in names[of] or "LayerNorm" in names[of] for of in stays["params"])
    assert len(decays["params"]) + len(stays["params"]) == sum(of.requires_grad for of in model.parameters())


def test_the_last_epoch_is_kept_where_it_is_asked_for_whatever_validation_says(tmp_path: Path) -> None:
    def kept(metric: str) -> dict[str, Any]:
        from transformers import set_seed

        scores = iter([0.9, 0.5, 0.1])
        model, _ = bert(1)
        set_seed(0)
        falling = replace(learn(), measure=lambda *_: {"macro_f1": next(scores)})
        local.fit(model, falling, replace(FINETUNE, best_metric=metric, epochs=3), COMPUTE, Path(tempfile.mkdtemp(dir=tmp_path)))
        return {name: of.clone() for name, of in model.state_dict().items()}

    last, best = kept("last"), kept("macro_f1")
    assert any(not of.equal(best[name]) for name, of in last.items())
    undisturbed, history = fitted(tmp_path, epochs=3)  # of a metric that stays the same the least loss, the last here, is kept
    assert [entry["epoch"] for entry in history if "eval_loss" in entry][-1] == 3
    assert all(of.equal(undisturbed[name]) for name, of in last.items())
    with pytest.raises(ValueError, match="early_stopping_patience"):
        replace(FINETUNE, best_metric="last", early_stopping_patience=2)


def test_auto_is_bfloat16_where_the_processor_has_it_by_its_flags(monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = [sorted(batch.tolist()) for batch, _ in device.batches(encoded, lengths, lambda rows: {}, 2)]
    assert sorted(chain.from_iterable(found)) == list(range(7))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 20 for batch in found)
    assert max(map(len, found)) > 2
    assert list(device.batches([], [], lambda rows: {}, 2)) == []


@pytest.mark.parametrize("frozen", [False, True])
def test_a_strided_depthwise_convolution_hands_its_gradient_down_in_float32_and_a_frozen_one_stays_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    frozen: bool,
) -> None:
    import torch

    monkeypatch.setattr(device, "find", lambda: "cpu")
    torch.manual_seed(0)
    layer, pixels = torch.nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False), torch.randn(2, 8, 9, 9).bfloat16().requires_grad_(not frozen)
    exactly = torch.nn.functional.conv2d(pixels.float(), layer.weight, stride=2, groups=8)
    half = replace(COMPUTE, dtype="bfloat16")
    device.avoid_slow_kernels(torch.nn.Sequential(layer), half)
    with device.arithmetic(half):
        given = layer(pixels)
    assert given.dtype == torch.bfloat16
    assert torch.equal(given, exactly.bfloat16()) is not frozen, "a weight that was rounded first gives something else"
    assert layer.state_dict().keys() == {"weight"}
    if not frozen:
        down = torch.randn_like(given)
        here, there = (torch.autograd.grad(of, pixels, down.to(of.dtype), retain_graph=True)[0] for of in (given, exactly))
        assert torch.equal(here, there)
