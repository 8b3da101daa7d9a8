"""Takes the steps in this process with transformers.Trainer, on the device that torch finds."""

import sys
from pathlib import Path
from typing import Any

from stages import device
from stages.contract import stopping
from stages.contract.params import Compute, Finetune
from stages.contract.plugins import Learning, merit
from stages.methods import resuming

IMPROVEMENTS = "eval_improvements"  # Trainer compares one number: how often the best was surpassed so far, 0 for an epoch that did not
PATIENCE = 25  # seconds from a signal to a checkpoint; who sends one often kills after 30
CLOCK = ("runtime", "per_second", "total_flos")  # what differs from run to run has no place in a history


def fit(model: Any, learning: Learning, finetune: Finetune, compute: Compute, work: Path) -> list[dict[str, float]]:
    """Train in place with batches of like length; leave the weights of the best epoch; return the history.

    Best is the greatest merit, the earliest on a tie. `work` holds checkpoints, and a training that was stopped or killed goes
    on from the last of them. Raises Stopped when a signal came, a checkpoint later.
    """
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    checkpoint = resuming.newest(work)
    arguments = TrainingArguments(
        output_dir=str(work),
        seed=finetune.seed,
        num_train_epochs=finetune.epochs,
        per_device_train_batch_size=finetune.batch_size,
        per_device_eval_batch_size=compute.batch_size,
        train_sampling_strategy="group_by_length" if len(set(learning.lengths)) > 1 else "random",
        use_cpu=device.find() == "cpu",  # bfloat16 on a CPU must be asked for in so many words
        bf16=compute.dtype == "bfloat16",
        optim="adamw_torch_fused",
        learning_rate=finetune.learning_rate,
        lr_scheduler_type=finetune.schedule,
        warmup_steps=finetune.warmup,
        weight_decay=finetune.weight_decay,
        max_grad_norm=finetune.max_grad_norm,
        eval_strategy="epoch",
        save_strategy="epoch",
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=True,
        metric_for_best_model=IMPROVEMENTS,
        greater_is_better=True,
        logging_steps=1 / (4 * finetune.epochs),
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=device.find() == "cuda",
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]  (several would multiply the batch unasked)
    if checkpoint:
        resuming.go_on(arguments, checkpoint)

    class Anew(TrainerCallback):
        def on_epoch_begin(self, *arguments: Any, **_: Any) -> None:
            learning.train.set_epoch(int(arguments[1].epoch or 0))

    best: list[tuple[float, float]] = []  # each better than the one before it

    def surpasses(epoch: dict[str, float]) -> bool:
        found = merit(epoch, finetune.best_metric)
        better = not best or found > best[-1]
        if better:
            best.append(found)
        return better

    class Improvements(TrainerCallback):
        def on_train_begin(self, *arguments: Any, **_: Any) -> None:
            for entry in arguments[1].log_history:
                if "eval_loss" in entry:
                    surpasses(entry)

        def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
            shown = (f"{k.removeprefix('eval_')} {v:.4f}" for k, v in metrics.items() if k.startswith("eval_") and not k.endswith(CLOCK))
            print(f"epoch {metrics['epoch']:g} of {finetune.epochs}: validation {', '.join(shown)}")
            metrics[IMPROVEMENTS] = float(len(best)) if surpasses(metrics) else 0.0

    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=learning.train,  # pyright: ignore[reportArgumentType]  (rows that can be indexed are a map-style data set)
        eval_dataset=learning.validation,  # pyright: ignore[reportArgumentType]
        data_collator=learning.collate,
        compute_loss_func=learning.loss,
        compute_metrics=lambda p: learning.measure(p.predictions, p.label_ids),
        callbacks=[Anew(), Improvements(), *([EarlyStoppingCallback(finetune.early_stopping_patience)] if finetune.early_stopping_patience else [])],
    )
    trainer.remove_callback(PrinterCallback)  # a line an epoch is enough
    with stopping.deferred(PATIENCE, "the same command goes on from the last checkpoint, if one is kept") as wish:
        resuming.keep(trainer, checkpoint, wish)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return [{k: v for k, v in entry.items() if not k.endswith(CLOCK)} for entry in trainer.state.log_history]
