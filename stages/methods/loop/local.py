"""Take the steps in this process with transformers.Trainer, on the device that torch finds."""

import sys
from math import isfinite
from pathlib import Path
from typing import Any

from stages.contract import progress, stopping
from stages.contract.errors import ModelError
from stages.contract.history import Entry, kept, merit
from stages.contract.learning import Inputs, Learning
from stages.methods import memory, resuming
from stages.models import device
from stages.params.compute import Compute
from stages.params.finetune import Finetune

MEASURED = "eval_"  # how Trainer begins the names of what validation gives
MERIT = f"{MEASURED}merit"  # the one number by which Trainer compares epochs
PATIENCE = 25  # seconds from a signal to a checkpoint; its sender often kills after 30
# Measures that differ from run to run, and so have no place in a history.
CLOCK = ("runtime", "per_second", "total_flos")


def fit(
    learner: Any, learning: Learning, finetune: Finetune, compute: Compute, work: Path
) -> list[Entry]:
    """Train in place with batches of like length, and return what was logged.

    The learner is left with the weights of the epoch that is kept. Best is the greatest merit, the
    earliest on a tie. `work` contains checkpoints, and a training that was stopped or killed goes
    on from the last of them. Raises Stopped after a signal, once a checkpoint is saved, and
    ModelError if the first epoch was in vain.
    """
    begun = [learning.begun] if learning.begun else []
    if not len(learning.train):
        return begun
    learner.to(device.find())
    at_first = _copied(learner.state_dict()) if begun else {}
    device.avoid_slow_kernels(learner, compute)
    memory.require(learner, learning, finetune.batch_size, compute)
    checkpoint = resuming.newest(work)
    arguments = _arguments(learning, finetune, compute, work)
    if checkpoint:
        resuming.go_on(arguments, checkpoint)
    trainer = _trainer(learner, learning, finetune, arguments)
    with stopping.deferred(
        PATIENCE, "the same command goes on from the last checkpoint, if one is kept"
    ) as wish:
        resuming.keep(trainer, checkpoint, wish)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    entries = begun + [_entry(log) for log in trainer.state.log_history]
    if begun and kept(entries, finetune.best_metric, learning.metric, learning.less) is entries[0]:
        learner.load_state_dict(at_first)
    return entries


def _entry(log: dict[str, float]) -> Entry:
    """Return one of Trainer's logs, without what differs from run to run."""
    logged = {name: of for name, of in log.items() if not name.endswith((*CLOCK, MERIT))}
    epoch, step = logged.pop("epoch"), int(logged.pop("step"))
    validation = {
        name.removeprefix(MEASURED): of for name, of in logged.items() if name.startswith(MEASURED)
    }
    return Entry(epoch, step, {} if validation else logged, validation)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {name: weights.cpu().clone() for name, weights in state.items()}


def _arguments(learning: Learning, finetune: Finetune, compute: Compute, work: Path) -> Any:
    """Return what Trainer is told: the settings, and a validation and a checkpoint each epoch."""
    from transformers import TrainingArguments

    lengths_differ = len(set(learning.train.lengths)) > 1
    arguments = TrainingArguments(
        output_dir=str(work),
        seed=finetune.seed,
        num_train_epochs=finetune.epochs,
        per_device_train_batch_size=finetune.batch_size,
        per_device_eval_batch_size=compute.batch_size,
        train_sampling_strategy="group_by_length" if lengths_differ else "random",
        use_cpu=device.find() == "cpu",  # bfloat16 on a CPU must be asked for explicitly
        bf16=device.dtype(compute) == "bfloat16",
        learning_rate=finetune.learning_rate,
        lr_scheduler_type=finetune.schedule,
        warmup_steps=finetune.warmup,
        max_grad_norm=finetune.max_grad_norm,
        eval_strategy="epoch",
        save_strategy="epoch",
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=True,
        metric_for_best_model=MERIT,
        greater_is_better=True,
        logging_steps=1 / (4 * finetune.epochs),
        logging_nan_inf_filter=False,
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=device.find() == "cuda",
        report_to=[],
        remove_unused_columns=False,  # rows contain only what the model takes
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]  (several would multiply the batch unasked)
    return arguments


def _trainer(learner: Any, learning: Learning, finetune: Finetune, arguments: Any) -> Any:
    """Return the Trainer, which asks after the first epoch whether anything was learned."""
    import torch
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer

    def measure(said: Any) -> dict[str, float]:
        if trainer.state.epoch == 1:
            learning.require(said.predictions, said.label_ids)
        return learning.measure(said.predictions, said.label_ids)

    class Steps(Trainer):
        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: Inputs,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            given = {name: of for name, of in inputs.items() if name != "labels"}
            loss, outputs = learning.loss(model, given, inputs["labels"], num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

    patience = finetune.early_stopping_patience
    trainer = Steps(
        model=learner,
        args=arguments,
        train_dataset=learning.train,  # pyright: ignore[reportArgumentType]  (rows that can be indexed are a map-style data set)
        eval_dataset=learning.validation,  # pyright: ignore[reportArgumentType]
        data_collator=learning.collate,
        optimizers=(optimizer(learner, finetune, learning), None),
        compute_loss_func=learning.loss,  # not called, but lets Trainer count the rows of a step
        compute_metrics=measure,
        callbacks=[
            _epochs(learning, finetune, arguments),
            *([EarlyStoppingCallback(patience)] if patience else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)  # a line an epoch is enough
    return trainer


def _epochs(learning: Learning, finetune: Finetune, arguments: Any) -> Any:
    """Return what alters rows anew for each epoch, and prints its validation and the time left."""
    from transformers import TrainerCallback

    class Epochs(TrainerCallback):
        def on_train_begin(self, *given: Any, **_: Any) -> None:
            left = given[1].max_steps - given[1].global_step
            self.shown = progress.Progress("train", left, "steps")

        def on_epoch_begin(self, *given: Any, **_: Any) -> None:
            learning.train.set_epoch(int(given[1].epoch or 0))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if arguments.disable_tqdm:
                self.shown.advance()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if not isfinite(logs.get("loss", 0.0)):
                raise ModelError(
                    "finetune: the loss is not finite; lower learning_rate, or look for a bad row"
                )

        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            measured = _entry(metrics | {"step": 0})
            print(f"epoch {measured.epoch:g} of {finetune.epochs}: {_spelled(measured)}")
            metrics[MERIT] = merit(measured, finetune.best_metric, learning.less)

    return Epochs()


def _spelled(epoch: Entry) -> str:
    measured = (f"{name} {value:.4f}" for name, value in epoch.validation.items())
    return f"validation {', '.join(measured)}"


def optimizer(model: Any, finetune: Finetune, learning: Learning) -> Any:
    """Return AdamW (Loshchilov & Hutter 2019) over the parameters that learn.

    Biases and the vectors of normalisation layers do not decay. Modules that learning.head names
    have a learning rate of their own, whatever a method has wrapped them in.
    """
    import torch

    groups: dict[tuple[float, float], list[Any]] = {}
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            in_head = any(f".{module}." in f".{name}" for module in learning.head)
            rate = finetune.head_learning_rate if in_head else finetune.learning_rate
            rate *= learning.rates.get(name, 1.0)
            decay = finetune.weight_decay if weights.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(weights)
    of_torch = [
        {"params": weights, "lr": rate, "weight_decay": decay}
        for (rate, decay), weights in groups.items()
    ]
    return torch.optim.AdamW(of_torch, fused=True)
