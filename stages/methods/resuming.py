"""Keep the checkpoints of a training, so that a stopped or killed one goes on to the same bytes.

transformers.Trainer saves weights, optimiser, schedule and random states, and restores them. This
module also keeps what Trainer would lose: the random state from which the order of the epoch's
batches was drawn, and the losses since the last log. A receipt, written last, signs all of it. A
checkpoint is removed only after a later one is signed, and opened only if its bytes are verified.
"""

import shutil
from pathlib import Path
from typing import Any

from stages.contract import receipts, stopping

BESIDE = "beside.safetensors"


def newest(folder: Path) -> Path | None:
    """Return the last checkpoint that is whole and whose best checkpoint is whole too.

    Removes the others that it meets, and prints a line for each.
    """
    checkpoints = sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True
    )
    whole = [path for path in checkpoints if receipts.is_signed(path)]
    for path in checkpoints:
        if path not in whole:
            _remove(path, "was not written to its end, or its bytes were changed")
    for path in whole:
        best = state(path)["best_model_checkpoint"]
        if best is None or Path(best) in whole:
            return path
        _remove(path, f"the best one until then, {Path(best).name}, is lost")
    return None


def state(checkpoint: Path) -> Any:
    """Return the state of a training, as Trainer wrote it down."""
    return receipts.read_json(checkpoint / "trainer_state.json")


def go_on(arguments: Any, checkpoint: Path) -> None:
    """Set Trainer's arguments for a training that goes on from a checkpoint, and print a line."""
    reached = state(checkpoint)
    # Worked out from a fraction; otherwise Trainer warns that it was changed.
    arguments.logging_steps = reached["logging_steps"]
    # Trainer itself would begin one more epoch.
    if reached["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]:
        arguments.num_train_epochs = round(reached["epoch"])
    print(
        f"goes on from step {reached['global_step']} of {reached['max_steps']} "
        f"(epoch {reached['epoch']:.4g}): {checkpoint}",
        flush=True,
    )


def keep(trainer: Any, checkpoint: Path | None, wish: stopping.Wish) -> None:
    """Let a trainer sign its checkpoints, go on from one, and stop after a step if wished."""
    import torch
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    before = load_file(checkpoint / BESIDE) if checkpoint else {}

    class Keep(TrainerCallback):
        # The random state from which the order of this epoch's batches is drawn, once the first is
        # asked for.
        drawn = torch.empty(0)

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            if before:
                _restore(trainer, before)

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            # Trainer restores the state of the checkpoint only after the order is drawn.
            if "drawn" in before:
                torch.random.set_rng_state(before.pop("drawn"))
            self.drawn = torch.random.get_rng_state()

        def on_step_end(self, *given: Any, **_: Any) -> None:
            _, state, control = given
            # The end of an epoch is measured, and then saved in any case.
            if wish.number is not None and not is_at_end(state):
                control.should_save = True

        def on_save(self, *given: Any, **_: Any) -> None:
            arguments, state, _ = given
            if is_at_end(state):
                self.drawn = torch.random.get_rng_state()
            new = Path(arguments.output_dir) / f"checkpoint-{state.global_step}"
            _sign(new, trainer, self.drawn)
            _remove_all_but(new, state.best_model_checkpoint)
            if wish.number is not None:
                raise _stopped(wish.number, state.global_step)

    trainer.add_callback(Keep())


def _restore(trainer: Any, before: dict[str, Any]) -> None:
    trainer._tr_loss.copy_(before["loss"])
    trainer._total_loss_scalar = before["total_loss"].item()
    trainer._globalstep_last_logged = int(before["logged"])
    trainer._initial_global_step = 0


def _sign(new: Path, trainer: Any, drawn: Any) -> None:
    """Add to a checkpoint what Trainer would lose, and sign it."""
    import torch
    from safetensors.torch import save_file

    (new / "training_args.bin").unlink()  # a pickle that nothing reads
    numbers = {
        "total_loss": torch.tensor(trainer._total_loss_scalar, dtype=torch.float64),
        "logged": torch.tensor(trainer._globalstep_last_logged),
    }
    save_file({"drawn": drawn, "loss": trainer._tr_loss.cpu(), **numbers}, new / BESIDE)
    receipts.sign(new)


def _remove_all_but(new: Path, best: str | None) -> None:
    for old in new.parent.glob("checkpoint-*"):
        if str(old) not in (str(new), best):
            shutil.rmtree(old)


def _stopped(number: int, step: int) -> stopping.Stopped:
    return stopping.Stopped(
        number, f"a checkpoint of step {step} is kept, the same command goes on from there"
    )


def is_at_end(state: Any) -> bool:
    """Tell whether the last step was the last of its epoch."""
    return float(state.epoch).is_integer()


def _remove(checkpoint: Path, why: str) -> None:
    print(f"{checkpoint}: {why}; removed", flush=True)
    shutil.rmtree(checkpoint)
