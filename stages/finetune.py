"""Fine-tunes the base model on train; validation chooses the epoch, and test is never read."""

from dataclasses import asdict
from typing import Any

from stages.contract import manifest, receipts, runner
from stages.contract.history import Entry, History, validated
from stages.contract.protocols import Start
from stages.contract.runner import Job
from stages.methods import training
from stages.models import device, loading
from stages.models.saved import Base, Saved
from stages.params.augment import Augment
from stages.params.compute import Compute
from stages.params.finetune import Finetune, ZeroShot
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
    device.set_up(compute)
    job.facts.update(device.described(compute))
    train, validation = (
        manifest.read(job.take("split", f"{name}.parquet")) for name in ("train", "validation")
    )
    folder, base_sha256 = job.raw(base)
    recipe = training.Recipe(job.key, modality, problem, folder, augment, compute, finetune)
    trained = training.train(recipe, train, validation, job.raw, job.resumable)
    begun, best, metric = trained.begun, trained.best, trained.learning.metric
    if begun and best.epoch == 0:  # nothing is left to be chosen on validation
        begun.learn_both(trained.model)
    _write(job, trained.start, trained.model, modality, problem, Base(base, base_sha256))
    _write_history(job, History(trained.entries, best.epoch), best, metric)
    title, score = trained.start.of_y.METRICS[metric].title, best.validation[metric]
    return f"{_chosen(trained.entries, best, finetune)}, is kept: validation {title} {score:.4f}"


def _write(
    job: Job, start: Start, learned: Any, modality: Modality, problem: Problem, base: Base
) -> None:
    """Write the model with its processor, and model.json."""
    loading.save(learned, job.hand_on("model"))
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
    if isinstance(finetune.tune, ZeroShot):
        return "what the names of the labels mean to the base model"
    if len(epochs) > 1 and best is epochs[-1] and best.step == epochs[-2].step:
        return f"of {int(epochs[-2].epoch)} epochs a soup"
    if best.epoch == 0:
        tried = f", which none of {len(epochs) - 1} epochs is better than" if epochs[1:] else ""
        return f"the head that a linear model gives{tried}"
    by = f"the best by validation {finetune.best_metric}"
    if finetune.best_metric == "last":
        by = "the last"
    return f"of {int(epochs[-1].epoch)} epochs {by}, {best.epoch:g}"


if __name__ == "__main__":
    runner.run(finetune)
