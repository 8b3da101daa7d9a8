"""Train: a base model learns from train rows, and validation chooses what is kept of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import plugins
from stages.contract.errors import ModelError
from stages.contract.history import Entry, kept
from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.methods import losses
from stages.models import device, linear, loading
from stages.params.augment import Augment
from stages.params.compute import Compute
from stages.params.finetune import Finetune, ProbeHead
from stages.params.problems import Problem
from stages.params.task import Modality


@dataclass(frozen=True)
class Recipe:
    """The sections of a task that a training depends on; base is the base model's folder."""

    task: str
    modality: Modality
    problem: Problem
    base: Path
    augment: Augment
    compute: Compute
    finetune: Finetune


@dataclass(frozen=True)
class Trained:
    """A model that has learned: what was logged, and the epoch that is kept of it.

    begun is how its head began, if it was solved; learning is what it learned from; learns is the
    number of weights that did.
    """

    start: Start
    model: Any
    learning: Learning
    entries: list[Entry]
    best: Entry
    begun: linear.Begun | None
    learns: int


def train(
    recipe: Recipe,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    raw: Callable[[str], tuple[Path, str]],
    work: Callable[[], Path],
) -> Trained:
    """Let the base model learn from train rows of the manifest.

    raw returns the folder of a source and its sha256; work, asked once every source was, is where
    a loop keeps checkpoints. Raises ModelError if nothing was learned.
    """
    import transformers

    finetune, compute = recipe.finetune, recipe.compute
    transformers.set_seed(finetune.seed)
    start = loaded(recipe, train, raw)
    encode, unaltered = encoder(start), replace(recipe.augment, on_the_fly=False)
    rows = encode(train, recipe.augment), encode(validation, unaltered)
    learning, tune = prepared(recipe, start, *rows), plugins.tune(finetune.tune.name)
    with device.arithmetic(compute):
        originals = train[train["id"] == train["source_id"]]
        begun = _begin(start, learning, lambda: encode(originals, unaltered), finetune)
        learning = replace(learning, begun=begun.measured) if begun else learning
        learner, learning = tune.prepare(start, learning, finetune.tune)
    learns = sum(of.numel() for of in learner.parameters() if of.requires_grad)
    if begun and not len(learning.train):
        learns = linear.head(start.model, start.new).weight.numel()
        learning.require(begun.outputs, begun.targets)
    loop = plugins.loop(finetune.loop.name)
    entries = loop.fit(learner, learning, finetune, compute, work())
    _require_finite(recipe.task, entries)
    best = kept(entries, finetune.best_metric, learning.metric, learning.less)
    return Trained(start, tune.finish(learner), learning, entries, best, begun, learns)


def outputs(trained: Trained, rows: pd.DataFrame) -> Any:
    """Return a trained model's outputs for rows of the manifest (rows, outputs), float32."""
    import torch

    start = trained.start
    encoding, compute = start.of_x.encoding, start.compute
    encoded = encoding.encode(rows, start.processor, start.settings)
    lengths, collate = encoding.lengths(encoded), encoding.collate(start.processor)
    model = trained.model.eval().to(device.find())
    scores = np.empty((len(rows), plugins.outputs(start.labels)), dtype=np.float32)
    with torch.no_grad(), device.arithmetic(compute):
        for batch, inputs in device.batches(encoded, lengths, collate, compute.batch_size):
            scores[batch] = model(**inputs).logits.float().cpu().numpy()
    return scores


def loaded(recipe: Recipe, train: pd.DataFrame, raw: Callable[[str], tuple[Path, str]]) -> Start:
    """Load the base model with a new head for the labels of train."""
    import torch

    modality, compute, folder = recipe.modality, recipe.compute, recipe.base
    of_x, of_y = plugins.modality(modality.name), plugins.problem(recipe.problem.name)
    labels = plugins.labels(of_y, of_y.values(train["y"]))
    model, new = loading.load(of_y, folder, modality.name, labels, new_head=True)
    model = model.to(memory_format=getattr(torch, compute.memory_format))
    _set_layers(model, recipe.finetune)
    processor = of_x.encoding.processor(folder)
    return Start(of_x, of_y, model, new, processor, labels, modality, compute, train, raw)


def _set_layers(model: Any, finetune: Finetune) -> None:
    """Set the dropout and the momentum of batch normalisation; null keeps the model's own."""
    import torch

    norm = torch.nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
    for layer in model.modules():
        if finetune.dropout is not None and isinstance(layer, torch.nn.Dropout):
            layer.p = finetune.dropout
        if finetune.batchnorm_momentum is not None and isinstance(layer, norm):
            layer.momentum = finetune.batchnorm_momentum


def encoder(start: Start) -> Callable[[pd.DataFrame, Augment], Rows]:
    """Return what encodes manifest rows with their targets."""
    of_x, of_y = start.of_x, start.of_y

    def encode(rows: pd.DataFrame, augment: Augment) -> Rows:
        encoded = of_x.encoding.encode_anew(rows, start.processor, start.settings, augment)
        lengths = of_x.encoding.lengths(encoded)
        return Rows(encoded, of_y.targets(rows["y"], start.labels), lengths)

    return encode


def prepared(recipe: Recipe, start: Start, train: Rows, validation: Rows) -> Learning:
    """Return what the loop learns from, and by what it is measured and stopped."""
    of_y, labels, minimised = start.of_y, start.labels, recipe.finetune.objective

    def measure(outputs: Any, targets: Any) -> dict[str, float]:
        predicted = of_y.decode(outputs, labels)["predicted"].tolist()
        measured = of_y.measure(of_y.truth(targets, labels), predicted, labels)
        return {name: measured[name] for name in of_y.HEADLINES}

    def require(outputs: Any, targets: Any) -> None:
        if of_y.at_chance(targets, outputs):
            raise ModelError(
                f"tasks.{recipe.task}.finetune: validation is no better than chance, "
                "so nothing was learned; look at a few rows and their labels, "
                "see whether the base model can read them, or try another learning_rate"
            )

    learning = Learning(
        train=train,
        validation=validation,
        collate=start.of_x.encoding.collate(start.processor),
        loss=losses.Plain(losses.of_problem(start.model.config)),
        measure=measure,
        metric=plugins.deciding(of_y, None),
        less=frozenset(name for name, metric in of_y.METRICS.items() if metric.less),
        require=require,
        head=frozenset(name.rpartition(".")[0] for name in start.new),
    )
    return plugins.objective(minimised.name).prepare(start, learning, minimised)


def _begin(
    start: Start, learning: Learning, originals: Callable[[], Rows], finetune: Finetune
) -> linear.Begun | None:
    """Let the head begin as a linear model of the original train rows, if finetune says so."""
    if not isinstance(finetune.head, ProbeHead):
        return None
    c, balanced = finetune.head.c, finetune.objective.balanced
    return linear.begin(start, originals(), learning, c, balanced)


def _require_finite(task: str, entries: list[Entry]) -> None:
    logged = (value for one in entries for value in (one.training | one.validation).values())
    if not all(map(isfinite, logged)):
        raise ModelError(
            f"tasks.{task}.finetune: the loss is not finite; "
            "lower learning_rate, or look for a bad row"
        )
