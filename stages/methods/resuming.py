"""Keeps the checkpoints of a training, so that one which was stopped or killed goes on and ends with the same bytes.

transformers.Trainer saves weights, optimiser, schedule and random states, and brings them back. Beside them is kept what it
would lose: the random state that the order of the epoch's batches was drawn from, and the losses since the last log. A receipt,
written last, signs all of it; a checkpoint is removed only when a later one is signed, and opened only when its bytes are verified.
"""

import shutil
from pathlib import Path
from typing import Any

from stages.contract import receipts, stopping

BESIDE = "beside.safetensors"


def newest(folder: Path) -> Path | None:
    """Return the last checkpoint that is whole and whose best one is whole too, and remove, with a line, those that are not."""
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True
    )
    whole = [path for path in found if receipts.is_signed(path)]
    for path in found:
        if path not in whole:
            _remove(path, "was not written to its end, or its bytes were changed")
    for path in whole:
        best = state(path)["best_model_checkpoint"]
        if best is None or Path(best) in whole:
            return path
        _remove(path, f"the best one until then, {Path(best).name}, is lost")
    return None


def state(checkpoint: Path) -> Any:
    """Return how far a training was, as Trainer wrote it down."""
    return receipts.read_json(checkpoint / "trainer_state.json")


def go_on(arguments: Any, checkpoint: Path) -> None:
    """Let Trainer's arguments be those of a training that goes on from a checkpoint, and say so."""
    of = state(checkpoint)
    arguments.logging_steps = of[
        "logging_steps"
    ]  # worked out from a fraction; else Trainer warns that it was changed
    if of["stateful_callbacks"]["TrainerControl"]["args"][
        "should_training_stop"
    ]:  # Trainer itself would begin one more epoch
        arguments.num_train_epochs = round(of["epoch"])
    print(
        f"goes on from step {of['global_step']} of {of['max_steps']} (epoch {of['epoch']:.4g}): {checkpoint}",
        flush=True,
    )


def keep(trainer: Any, checkpoint: Path | None, wish: stopping.Wish) -> None:
    """Let a trainer sign its checkpoints, go on from one, and stop at a step's end where it is wished."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import TrainerCallback

    before = load_file(checkpoint / BESIDE) if checkpoint else {}

    class Keep(TrainerCallback):
        drawn = torch.empty(
            0
        )  # the random state that the order of this epoch's batches is drawn from, once the first is asked for

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            if before:
                trainer._tr_loss.copy_(before["loss"])
                trainer._total_loss_scalar = before["total_loss"].item()
                trainer._globalstep_last_logged = int(before["logged"])
                trainer._initial_global_step = 0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            if (
                "drawn" in before
            ):  # Trainer brings back the state of the checkpoint, but only after the order is drawn
                torch.random.set_rng_state(before.pop("drawn"))
            self.drawn = torch.random.get_rng_state()

        def on_step_end(self, *given: Any, **_: Any) -> None:
            _, state, control = given
            if wish.number is not None and not _is_at_end(
                state
            ):  # an epoch's end is measured, and then saved in any case
                control.should_save = True

        def on_save(self, *given: Any, **_: Any) -> None:
            arguments, state, _ = given
            if _is_at_end(state):
                self.drawn = torch.random.get_rng_state()
            folder = Path(arguments.output_dir)
            new = folder / f"checkpoint-{state.global_step}"
            (new / "training_args.bin").unlink()  # a pickle that nothing reads
            numbers = {
                "total_loss": torch.tensor(trainer._total_loss_scalar, dtype=torch.float64),
                "logged": torch.tensor(trainer._globalstep_last_logged),
            }
            save_file(
                {"drawn": self.drawn, "loss": trainer._tr_loss.cpu(), **numbers}, new / BESIDE
            )
            receipts.sign(new)
            for old in folder.glob("checkpoint-*"):
                if str(old) not in (str(new), state.best_model_checkpoint):
                    shutil.rmtree(old)
            if wish.number is not None:
                raise stopping.Stopped(
                    wish.number,
                    f"a checkpoint of step {state.global_step} is kept, the same command goes on from there",
                )

    trainer.add_callback(Keep())


def _is_at_end(state: Any) -> bool:
    """Tell whether the last step was the last of its epoch."""
    return float(state.epoch).is_integer()


def _remove(checkpoint: Path, why: str) -> None:
    print(f"{checkpoint}: {why}; removed", flush=True)
    shutil.rmtree(checkpoint)
