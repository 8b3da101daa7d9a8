"""Takes the steps in this process with transformers.Trainer, on the device that torch finds."""

import shutil
import sys
from pathlib import Path
from typing import Any

from stages.contract.params import Compute, Finetune
from stages.contract.plugins import Learning

CLOCK = ("runtime", "per_second", "total_flos")  # what differs from run to run has no place in a history


def fit(model: Any, learning: Learning, finetune: Finetune, compute: Compute, work: Path) -> list[dict[str, float]]:
    """Train in place with batches of like length; leave the weights of the best epoch; return the history.

    Best is the greatest validation metric, the earliest on a tie. Checkpoints hold weights only and are removed.
    """
    import torch
    from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

    checkpoints = work / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        seed=finetune.seed,
        num_train_epochs=finetune.epochs,
        per_device_train_batch_size=finetune.batch_size,
        per_device_eval_batch_size=compute.batch_size,
        train_sampling_strategy="group_by_length" if len(set(learning.lengths)) > 1 else "random",
        use_cpu=not torch.cuda.is_available(),  # bfloat16 on a CPU must be asked for in so many words
        bf16=compute.dtype == "bfloat16",
        optim="adamw_torch_fused",
        learning_rate=finetune.learning_rate,
        lr_scheduler_type=finetune.schedule,
        warmup_steps=finetune.warmup,
        weight_decay=finetune.weight_decay,
        max_grad_norm=finetune.max_grad_norm,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=finetune.best_metric,
        greater_is_better=True,
        logging_steps=1 / (4 * finetune.epochs),
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]  (several would multiply the batch unasked)

    class Anew(TrainerCallback):
        def on_epoch_begin(self, *arguments: Any, **_: Any) -> None:
            learning.train.set_epoch(round(arguments[1].epoch or 0))

    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=learning.train,  # pyright: ignore[reportArgumentType]  (rows that can be indexed are a map-style data set)
        eval_dataset=learning.validation,  # pyright: ignore[reportArgumentType]
        data_collator=learning.collate,
        compute_loss_func=learning.loss,
        compute_metrics=lambda p: learning.measure(p.predictions, p.label_ids),
        callbacks=[Anew(), *([EarlyStoppingCallback(finetune.early_stopping_patience)] if finetune.early_stopping_patience else [])],
    )
    trainer.train()
    shutil.rmtree(checkpoints)
    return [{k: v for k, v in entry.items() if not k.endswith(CLOCK)} for entry in trainer.state.log_history]
