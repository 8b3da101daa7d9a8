"""Fine-tunes the base model on train; validation chooses the epoch, and test is never read."""

from collections.abc import Callable
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ModelError
from stages.contract.history import Entry, History, kept, validated
from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.contract.runner import Job
from stages.models import device, linear, loading
from stages.models.saved import Base, Saved
from stages.params.augment import Augment
from stages.params.compute import Compute
from stages.params.finetune import Finetune, ProbeHead
from stages.params.problems import Problem
from stages.params.task import Modality


def finetune(
    job: Job,
    modality: Modality,
    problem: Problem,
    base: str,
    augment: Augment,
    compute: Compute,
    finetune: Finetune,
) -> str:
    """Write the model (safetensors), model.json, its history and its validation metrics."""
    import transformers

    device.set_up(compute)
    transformers.set_seed(finetune.seed)
    job.facts.update(device.described(compute))
    train, validation = (
        manifest.read(job.take("split", f"{name}.parquet")) for name in ("train", "validation")
    )
    folder, base_sha256 = job.raw(base)
    start = _start(folder, modality, problem, train, compute, finetune)
    encode, unaltered = _encoder(start, modality), replace(augment, on_the_fly=False)
    rows = encode(train, augment), encode(validation, unaltered)
    learning, tune = _learning(job, start, *rows, finetune), plugins.tune(finetune.tune.name)
    with device.arithmetic(compute):
        originals = train[train["id"] == train["source_id"]]
        begun = _begin(start, learning, lambda: encode(originals, unaltered), finetune)
        learning = replace(learning, begun=begun.measured) if begun else learning
        learner, learning = tune.prepare(start, learning, finetune.tune)
    if begun and not len(learning.train):
        learning.require(begun.outputs, begun.targets)
    loop = plugins.loop(finetune.loop.name)
    entries = loop.fit(learner, learning, finetune, compute, job.resumable())
    _require_finite(job, entries)

    best = kept(entries, finetune.best_metric, learning.metric, learning.less)
    learned = tune.finish(learner)
    if begun and best.epoch == 0:  # nothing is left to be chosen on validation
        begun.learn_both(learned)
    _write(job, start, learned, modality, problem, Base(base, base_sha256))
    _write_history(job, History(entries, best.epoch), best, learning.metric)
    title, score = start.of_y.METRICS[learning.metric].title, best.validation[learning.metric]
    return f"{_chosen(entries, best, finetune)}, is kept: validation {title} {score:.4f}"


def _start(
    folder: Any,
    modality: Modality,
    problem: Problem,
    train: pd.DataFrame,
    compute: Compute,
    finetune: Finetune,
) -> Start:
    """Load the base model with a new head for the labels of train."""
    import torch

    of_x, of_y = plugins.modality(modality.name), plugins.problem(problem.name)
    labels = plugins.labels(of_y, of_y.values(train["y"]))
    model, new = loading.load(of_y, folder, modality.name, labels, new_head=True)
    model = model.to(memory_format=getattr(torch, compute.memory_format))
    _set_layers(model, finetune)
    processor = of_x.encoding.processor(folder)
    return Start(of_x, of_y, model, new, processor, labels)


def _set_layers(model: Any, finetune: Finetune) -> None:
    """Set the dropout and the momentum of batch normalisation; null keeps the model's own."""
    import torch

    norm = torch.nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
    for layer in model.modules():
        if finetune.dropout is not None and isinstance(layer, torch.nn.Dropout):
            layer.p = finetune.dropout
        if finetune.batchnorm_momentum is not None and isinstance(layer, norm):
            layer.momentum = finetune.batchnorm_momentum


def _encoder(start: Start, modality: Modality) -> Callable[[pd.DataFrame, Augment], Rows]:
    """Return what encodes manifest rows with their targets."""
    of_x, of_y = start.of_x, start.of_y

    def encode(rows: pd.DataFrame, augment: Augment) -> Rows:
        encoded = of_x.encoding.encode_anew(rows, start.processor, modality, augment)
        lengths = of_x.encoding.lengths(encoded)
        return Rows(encoded, of_y.targets(rows["y"], start.labels), lengths)

    return encode


def _learning(
    job: Job, start: Start, train: Rows, validation: Rows, finetune: Finetune
) -> Learning:
    """Return what the loop learns from, and by what it is measured and stopped."""
    of_y, labels = start.of_y, start.labels
    objective = plugins.objective(finetune.objective.name)

    def measure(outputs: Any, targets: Any) -> dict[str, float]:
        predicted = of_y.decode(outputs, labels)["predicted"].tolist()
        measured = of_y.measure(of_y.truth(targets, labels), predicted, labels)
        return {name: measured[name] for name in of_y.HEADLINES}

    def require(outputs: Any, targets: Any) -> None:
        if of_y.at_chance(targets, outputs):
            raise ModelError(
                f"tasks.{job.key}.finetune: validation is no better than chance, "
                "so nothing was learned; look at a few rows and their labels, "
                "see whether the base model can read them, or try another learning_rate"
            )

    return Learning(
        train=train,
        validation=validation,
        collate=start.of_x.encoding.collate(start.processor),
        loss=objective.prepare(start, list(train.targets), finetune.objective),
        measure=measure,
        metric=plugins.deciding(of_y, None),
        less=frozenset(name for name, metric in of_y.METRICS.items() if metric.less),
        require=require,
        head=frozenset(name.rpartition(".")[0] for name in start.new),
    )


def _begin(
    start: Start, learning: Learning, originals: Callable[[], Rows], finetune: Finetune
) -> linear.Begun | None:
    """Let the head begin as a linear model of the original train rows, if finetune says so."""
    if not isinstance(finetune.head, ProbeHead):
        return None
    c, balanced = finetune.head.c, finetune.objective.balanced
    return linear.begin(start, originals(), learning, c, balanced)


def _require_finite(job: Job, entries: list[Entry]) -> None:
    logged = (value for one in entries for value in (one.training | one.validation).values())
    if not all(map(isfinite, logged)):
        raise ModelError(
            f"tasks.{job.key}.finetune: the loss is not finite; "
            "lower learning_rate, or look for a bad row"
        )


def _write(
    job: Job, start: Start, learned: Any, modality: Modality, problem: Problem, base: Base
) -> None:
    """Write the model with its processor, and model.json."""
    loading.plain(learned).save_pretrained(job.hand_on("model"))
    processor = start.of_x.encoding.stated(start.processor, modality)
    processor.save_pretrained(job.out / "model")
    described = Saved(
        task=job.key,
        modality=asdict(modality),
        problem=problem.name,
        labels=start.labels,
        base=base,
        sha256=receipts.digest(receipts.files(job.out, ["model"])),
    )
    described.write(job.hand_on("model.json"))


def _write_history(job: Job, history: History, best: Entry, metric: str) -> None:
    """Write the history, and for DVC the epochs and the metrics of the one that is kept."""
    history.write(job.hand_on("history.json"))
    # `dvc plots` draws nothing if the first or the last entry lacks y.
    epochs = [
        {"epoch": epoch.epoch, "score": epoch.validation[metric], **epoch.validation}
        for epoch in history.epochs
    ]
    receipts.write_json(job.out / "epochs.json", epochs)
    receipts.write_json(job.out / "metrics.json", best.validation | {"best_epoch": best.epoch})


def _chosen(entries: list[Entry], best: Entry, finetune: Finetune) -> str:
    """Say which epoch is kept, and why."""
    epochs = validated(entries)
    if best.epoch == 0:
        tried = f", which none of {len(epochs) - 1} epochs is better than" if epochs[1:] else ""
        return f"the head that a linear model gives{tried}"
    by = f"the best by validation {finetune.best_metric}"
    if finetune.best_metric == "last":
        by = "the last"
    return f"of {int(epochs[-1].epoch)} epochs {by}, {best.epoch:g}"


if __name__ == "__main__":
    runner.run(finetune)
