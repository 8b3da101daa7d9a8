"""Fine-tunes the base model on train and keeps the epoch that validation likes best; test is never read here."""

from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ModelError
from stages.contract.runner import Job
from stages.models import device, linear, loading
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
    """Write the model (safetensors), what it is (model.json), its history and its validation metrics."""
    import torch
    import transformers

    device.set_up(compute)
    transformers.set_seed(finetune.seed)
    job.facts.update(device.described(compute))
    of_x, of_y = plugins.modality(modality.name), plugins.problem(problem.name)
    parts = {
        name: manifest.read(job.take("split", f"{name}.parquet"))
        for name in ("train", "validation")
    }
    folder, base_sha256 = job.raw(base)
    labels = plugins.labels(of_y, of_y.values(parts["train"]["y"]))

    model, new = loading.load(of_y, folder, modality.name, labels, new_head=True)
    model = model.to(memory_format=getattr(torch, compute.memory_format))
    _set_layers(model, finetune)
    processor, tune = of_x.encoding.processor(folder), plugins.tune(finetune.tune.name)

    def encode(rows: pd.DataFrame, augment: Augment) -> plugins.Rows:
        encoded = of_x.encoding.encode_anew(rows, processor, modality, augment)
        return plugins.Rows(
            encoded, of_y.targets(rows["y"], labels), of_x.encoding.lengths(encoded)
        )

    def measure(outputs: Any, targets: Any) -> dict[str, float]:
        measured = of_y.measure(
            of_y.truth(targets, labels), of_y.decode(outputs, labels)["predicted"].tolist(), labels
        )
        return {name: measured[name] for name in of_y.HEADLINES}

    def require(outputs: Any, targets: Any) -> None:
        if of_y.at_chance(targets, outputs):
            raise ModelError(
                f"tasks.{job.key}.finetune: validation is no better than chance, so nothing was learned; look at a few rows and their labels, "
                "see whether the base model can read them, or try another learning_rate"
            )

    unaltered, metric = replace(augment, on_the_fly=False), plugins.deciding(of_y, None)
    learning = plugins.Learning(
        train=(train := encode(parts["train"], augment)),
        validation=encode(parts["validation"], unaltered),
        collate=of_x.encoding.collate(processor),
        loss=plugins.objective(finetune.objective.name).loss(
            finetune.objective, model, list(train.targets)
        ),
        measure=measure,
        metric=metric,
        less=frozenset(name for name, of in of_y.METRICS.items() if of.less),
        require=require,
        head=frozenset(name.rpartition(".")[0] for name in new),
    )
    begun = None
    with device.arithmetic(compute):
        if isinstance(finetune.head, ProbeHead):
            originals = parts["train"][parts["train"]["id"] == parts["train"]["source_id"]]
            begun = linear.begin(
                of_y,
                model,
                new,
                encode(originals, unaltered),
                learning,
                finetune.head.c,
                finetune.objective.balanced,
            )
            learning = replace(learning, begun=begun.measured)
        learner, learning = tune.prepare(model, new, learning, finetune.tune)
    if begun and not len(learning.train):
        require(begun.outputs, begun.targets)
    history = plugins.loop(finetune.loop.name).fit(
        learner, learning, finetune, compute, job.resumable()
    )

    if not all(isfinite(value) for entry in history for value in entry.values()):
        raise ModelError(
            f"tasks.{job.key}.finetune: the loss is not finite; lower learning_rate, or look for a bad row"
        )
    epochs = [entry for entry in history if "eval_loss" in entry]
    best, learned = (
        plugins.kept(history, finetune.best_metric, metric, learning.less),
        tune.finish(learner),
    )
    if begun and best["epoch"] == 0:  # nothing is left to be chosen on validation
        begun.learn_both(learned)
    loading.plain(learned).save_pretrained(job.hand_on("model"))
    of_x.encoding.stated(processor, modality).save_pretrained(job.out / "model")
    receipts.write_json(job.hand_on("model.json"), {
        "task": job.key,
        "modality": asdict(modality),
        "problem": problem.name,
        "labels": labels,
        "base": {"source": base, "sha256": base_sha256},
        "sha256": receipts.digest(receipts.files(job.out, ["model"])),
    })  # fmt: skip
    receipts.write_json(job.hand_on("history.json"), history)
    shown = [
        epoch | {"score": epoch[f"eval_{metric}"]} for epoch in epochs
    ]  # `dvc plots` draws nothing where the first or last row lacks y
    receipts.write_json(job.out / "epochs.json", shown)
    metrics = {
        name.removeprefix("eval_"): value
        for name, value in best.items()
        if name.startswith("eval_")
    } | {"best_epoch": best["epoch"]}
    receipts.write_json(job.hand_on("metrics.json"), metrics)
    if best["epoch"] == 0:
        chosen = "the head that a linear model gives" + (
            f", which none of {len(epochs) - 1} epochs is better than" if epochs[1:] else ""
        )
    else:
        by = (
            "the last"
            if finetune.best_metric == "last"
            else f"the best by validation {finetune.best_metric}"
        )
        chosen = f"of {int(epochs[-1]['epoch'])} epochs {by}, {best['epoch']:g}"
    return (
        f"{chosen}, is kept: validation {of_y.METRICS[metric].title} {best[f'eval_{metric}']:.4f}"
    )


def _set_layers(model: Any, finetune: Finetune) -> None:
    """Set the dropout and the momentum of batch normalisation that params.yaml states; null keeps the model's own."""
    import torch

    for layer in model.modules():
        if finetune.dropout is not None and isinstance(layer, torch.nn.Dropout):
            layer.p = finetune.dropout
        if finetune.batchnorm_momentum is not None and isinstance(
            layer, torch.nn.modules.batchnorm._BatchNorm
        ):  # pyright: ignore[reportPrivateUsage]
            layer.momentum = finetune.batchnorm_momentum


if __name__ == "__main__":
    runner.run(finetune)
