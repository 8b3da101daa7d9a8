"""What learns and how: each setting of finetune changes what it says, on a real model small enough to train in a second."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.contract import settings
from stages.contract.errors import ModelError
from stages.contract.params import Compute, CrossEntropy, Finetune, Freeze, Full, Lora
from stages.contract.plugins import Learning
from stages.methods.loop import local
from stages.methods.objective import cross_entropy
from stages.methods.tune import freeze, full, lora
from tests.conftest import ROOT

FINETUNE = replace(settings.load(ROOT / "params.yaml").tasks["questions"].finetune, epochs=2, batch_size=4, learning_rate=0.01, tune=Full("full", True))
COMPUTE = Compute(threads=1, batch_size=8)


def bert(layers: int = 3) -> tuple[Any, frozenset[str]]:
    """Return a tiny BERT with a new head, and the names of the head's parameters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50, "num_labels": 3}
    model = BertForSequenceClassification(BertConfig(**shape))
    return model, frozenset({"classifier.weight", "classifier.bias"})


def fitted(folder: Path, **change: Any) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Return the weights and the history of a model that has learned with the settings changed."""
    import torch
    from transformers import set_seed

    finetune: Finetune = replace(FINETUNE, **change)
    model, new = bert(1)
    set_seed(0)
    rows = [{"input_ids": [2, 5 + i % 30, 7, 3], "attention_mask": [1, 1, 1, 1], "labels": i % 3} for i in range(24)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}

    learner = full.prepare(model, new, Full("full", True))
    loss = cross_entropy.loss(finetune.objective)
    learning = Learning(rows, rows[:8], collate, loss, lambda logits, targets: {"macro_f1": 0.5, "accuracy": 0.5})
    history = local.fit(learner, learning, finetune, COMPUTE, folder)
    return {name: value.clone() for name, value in learner.state_dict().items()}, history


CHANGES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "constant_with_warmup"},
    "warmup": {"warmup": 0.5},
    "weight_decay": {"weight_decay": 0.5},
    "max_grad_norm": {"max_grad_norm": 0.001},
    "label_smoothing": {"objective": CrossEntropy("cross_entropy", 0.3)},
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
    """The metric here never gets better than at first."""
    epochs = [entry["epoch"] for entry in fitted(tmp_path, epochs=6, early_stopping_patience=2)[1] if "eval_loss" in entry]
    assert epochs == [1, 2, 3]
    assert len([1 for entry in fitted(tmp_path, epochs=4, early_stopping_patience=None)[1] if "eval_loss" in entry]) == 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_is_torch_s_and_a_sum_over_accumulated_batches_is_the_mean(smoothing: float) -> None:
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = cross_entropy.loss(CrossEntropy("cross_entropy", smoothing))
    right = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss(SequenceClassifierOutput(logits=logits), labels) == pytest.approx(right)
    assert loss(SequenceClassifierOutput(logits=logits), labels, 6) == pytest.approx(right)


def test_freeze_lets_the_top_layers_learn_and_what_stands_above_them() -> None:
    model, new = bert(3)
    freeze.prepare(model, new, Freeze("freeze", 1))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if name.startswith(("bert.encoder.layer.2.", "bert.pooler", "classifier"))}
    with pytest.raises(ModelError, match="4 top layers are to learn, and the base model has 3"):
        freeze.prepare(model, new, Freeze("freeze", 4))


def test_lora_moves_its_targets_and_merges_to_what_it_computed() -> None:
    import torch

    model, new = bert(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learner = lora.prepare(model, new, Lora("lora", 4, 8.0, 0.0, ("query",)))
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
        lora.prepare(model, new, Lora("lora", 4, 8.0, 0.0, targets))


def test_lora_takes_all_linear_layers_but_the_head() -> None:
    model, new = bert(1)
    learner = lora.prepare(model, new, Lora("lora", 2, 4.0, 0.0, "all-linear"))
    updated = {name for name, _ in learner.named_parameters() if "lora_A" in name}
    assert any("intermediate" in name for name in updated)
    assert not any("classifier" in name for name in updated)
