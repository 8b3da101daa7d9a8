"""Take the steps in this process with transformers.Trainer, on the device that torch finds."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stages.contract import progress, stopping
from stages.contract.errors import ModelError
from stages.contract.history import Entry, kept, merit
from stages.contract.learning import LABELS, Inputs, Learning
from stages.methods import averaging, memory, optimisers, resuming
from stages.models import device
from stages.params.compute import Compute
from stages.params.finetune import Ema, Finetune, Soup

MEASURED = "eval_"  # how Trainer begins the names of what validation gives
MERIT = f"{MEASURED}merit"  # the one number by which Trainer compares epochs
ONE_CYCLE = "one_cycle"  # a schedule that transformers has not
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
    learner.register_state_dict_post_hook(_contiguous)
    at_first = averaging.copied(learner) if begun else {}
    device.avoid_slow_kernels(learner, compute)
    numbers = optimisers.kept(finetune) + isinstance(finetune.averaging, Ema)
    memory.require(learner, learning, finetune.batch_size, compute, numbers)
    checkpoint = resuming.newest(work)
    arguments = _arguments(learning, finetune, compute, work)
    if checkpoint:
        resuming.go_on(arguments, checkpoint)
    moving = None
    if isinstance(finetune.averaging, Ema):
        moving = averaging.Moving(learner, finetune.averaging.decay)
        if checkpoint:
            moving.read(checkpoint)
    trainer = _trainer(learner, learning, finetune, arguments, moving)
    with stopping.deferred(
        PATIENCE, "the same command goes on from the last checkpoint, if one is kept"
    ) as wish:
        resuming.keep(trainer, checkpoint, wish)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    entries = begun + [_entry(log) for log in trainer.state.log_history]
    if moving:
        moving.read(Path(trainer.state.best_model_checkpoint))
        learner.load_state_dict(moving.state)
    if isinstance(finetune.averaging, Soup):
        entries += _soup(learner, trainer, entries, learning, finetune, work)
    if begun and kept(entries, finetune.best_metric, learning.metric, learning.less) is entries[0]:
        learner.load_state_dict(at_first)
    return entries


def _contiguous(_: Any, state: dict[str, Any], *__: Any) -> None:
    """Let a checkpoint have tensors as safetensors wants them, whatever their memory format."""
    state.update({name: of.contiguous() for name, of in state.items() if hasattr(of, "contiguous")})


def _entry(log: dict[str, float]) -> Entry:
    """Return one of Trainer's logs, without what differs from run to run."""
    logged = {name: of for name, of in log.items() if not name.endswith((*CLOCK, MERIT))}
    epoch, step = logged.pop("epoch"), int(logged.pop("step"))
    validation = {
        name.removeprefix(MEASURED): of for name, of in logged.items() if name.startswith(MEASURED)
    }
    return Entry(epoch, step, {} if validation else logged, validation)


def _soup(
    learner: Any,
    trainer: Any,
    entries: list[Entry],
    learning: Learning,
    finetune: Finetune,
    work: Path,
) -> list[Entry]:
    """Give the learner the soup of its epochs, and return its entry if there is one."""

    def measure() -> Entry:
        metrics = trainer.predict(learning.validation, metric_key_prefix="eval").metrics
        return _entry(metrics | {"epoch": 0.0, "step": 0})

    made = averaging.soup(
        learner,
        entries,
        work,
        measure,
        lambda entry: merit(entry, finetune.best_metric, learning.less),
    )
    return [made] if made else []


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
        gradient_accumulation_steps=finetune.accumulation,
        train_sampling_strategy="group_by_length" if lengths_differ else "random",
        use_cpu=device.find() == "cpu",  # bfloat16 on a CPU must be asked for explicitly
        bf16=device.dtype(compute) == "bfloat16",
        learning_rate=finetune.learning_rate,
        lr_scheduler_type="constant" if finetune.schedule == ONE_CYCLE else finetune.schedule,
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


def _trainer(
    learner: Any,
    learning: Learning,
    finetune: Finetune,
    arguments: Any,
    moving: averaging.Moving | None,
) -> Any:
    """Return the Trainer, which asks after the first epoch whether anything was learned.

    What is validated is the moving average, if there is one.
    """
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
            given = {name: of for name, of in inputs.items() if name != LABELS}
            loss, outputs = learning.loss(model, given, inputs[LABELS], num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

        def training_step(self, *given: Any, **named: Any) -> Any:
            loss = super().training_step(*given, **named)
            if not loss.isfinite():
                steps: Any = self.optimizer
                raise ModelError(
                    f"finetune: the loss is not finite at step {self.state.global_step + 1}, with "
                    f"a learning rate of {steps.param_groups[0]['lr']:.3g}; lower "
                    "learning_rate, or look for a bad row"
                )
            return loss

        def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
            """Count rows; transformers counts targets, of which several labels have more."""
            return torch.tensor(sum(len(of[LABELS]) for of in batch_samples), device=device)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            if finetune.schedule == ONE_CYCLE and self.lr_scheduler is None:
                of = optimizer or self.optimizer
                self.lr_scheduler = optimisers.one_cycle(of, num_training_steps, finetune)
            return super().create_scheduler(num_training_steps, optimizer)

        def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
            with moving.used() if moving else nullcontext():
                return super().evaluate(*given, **named)

    patience = finetune.early_stopping_patience
    trainer = Steps(
        model=learner,
        args=arguments,
        train_dataset=learning.train,  # pyright: ignore[reportArgumentType]  (rows that can be indexed are a map-style data set)
        eval_dataset=learning.validation,  # pyright: ignore[reportArgumentType]
        data_collator=learning.collate,
        optimizers=(optimisers.optimiser(learner, finetune, learning), None),
        compute_loss_func=learning.loss,  # not called, but lets Trainer count the rows of a step
        compute_metrics=measure,
        callbacks=[
            _epochs(learner, learning, finetune, arguments, moving),
            *([EarlyStoppingCallback(patience)] if patience else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)  # a line an epoch is enough
    return trainer


def _epochs(
    learner: Any,
    learning: Learning,
    finetune: Finetune,
    arguments: Any,
    moving: averaging.Moving | None,
) -> Any:
    """Return what alters rows anew for each epoch, and prints its validation and the time left.

    It also keeps averages of the weights, or what they will be made of.
    """
    from transformers import TrainerCallback

    class Epochs(TrainerCallback):
        def on_train_begin(self, *given: Any, **_: Any) -> None:
            left = given[1].max_steps - given[1].global_step
            self.shown = progress.Progress("train", left, "steps")

        def on_epoch_begin(self, *given: Any, **_: Any) -> None:
            learning.train.set_epoch(int(given[1].epoch or 0))

        def on_step_end(self, *given: Any, **_: Any) -> None:
            if moving:
                moving.update(given[1].global_step)
            if arguments.disable_tqdm:
                self.shown.advance()

        def on_save(self, *given: Any, **_: Any) -> None:
            state = given[1]
            if moving:
                moving.write(Path(arguments.output_dir, f"checkpoint-{state.global_step}"))
            if isinstance(finetune.averaging, Soup) and resuming.is_at_end(state):
                averaging.keep_epoch(learner, round(state.epoch), Path(arguments.output_dir))

        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            measured = _entry(metrics | {"step": 0})
            print(f"epoch {measured.epoch:g} of {finetune.epochs}: {_spelled(measured)}")
            metrics[MERIT] = merit(measured, finetune.best_metric, learning.less)

    return Epochs()


def _spelled(epoch: Entry) -> str:
    measured = (f"{name} {value:.4f}" for name, value in epoch.validation.items())
    return f"validation {', '.join(measured)}"
