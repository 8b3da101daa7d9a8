"""Tries a base model whole before work: a batch of the largest rows forward and backward through processor, base and head, in seconds."""

from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError, RefitError
from stages.contract.escape import one_line
from stages.contract.plugins import Modality, Problem
from stages.models import loading

ROWS = 2
LABELS = ["0", "1"]


def require(folder: Path, of_x: Modality, of_y: Problem, modality: Any) -> None:
    """Raise ModelError where the base model of a folder cannot learn from rows as large as the modality's settings say; it names settings that would do."""
    base = _Base(folder, of_x, of_y, modality.name)
    if (wrong := base.wrong(modality)) is None:
        return
    other = of_x.encoding.within(modality, lambda settings: base.wrong(settings) is None)
    would = f"; {_differs(modality, other)} would do" if other else "; take another base"
    sizes = ", ".join(
        f"modality.{name}: {of}"
        for name, of in vars(modality).items()
        if other and of != getattr(other, name)
    )
    raise ModelError(
        f"{folder}: the base model cannot be trained{f' with {sizes}' if sizes else ''} ({wrong}){would}"
    )


def fitting(folder: Path, of_x: Modality, of_y: Problem, modality: Any) -> Any:
    """Return the modality's settings or, where the base model of a folder does not take them, settings near them; raises ModelError where it takes none."""
    base = _Base(folder, of_x, of_y, modality.name)
    if (wrong := base.wrong(modality)) is None:
        return modality
    if (
        other := of_x.encoding.within(modality, lambda settings: base.wrong(settings) is None)
    ) is None:
        raise ModelError(f"{folder}: the base model cannot be trained ({wrong}); take another base")
    return other


class _Base:
    def __init__(self, folder: Path, of_x: Modality, of_y: Problem, name: str) -> None:
        self.of_x = of_x
        self.model, _ = loading.load(of_y, folder, name, LABELS, new_head=True)
        self.processor = of_x.encoding.processor(folder)

    def wrong(self, settings: Any) -> str | None:
        """Return why a batch does not go through; null where it does. On the CPU, where an index out of range is an error and no abort."""
        import torch

        try:
            self.of_x.encoding.stated(self.processor, settings)
            rows, collate = (
                self.of_x.encoding.largest(self.processor, settings, ROWS),
                self.of_x.encoding.collate(self.processor),
            )
            inputs = collate([rows[i] for i in range(ROWS)])
            pixels = [of.requires_grad_() for of in inputs.values() if of.is_floating_point()]
            logits = self.model.train()(**inputs).logits
            if logits.shape != (ROWS, len(LABELS)):
                return f"its outputs have the shape {tuple(logits.shape)}, not {ROWS} rows of {len(LABELS)} labels"
            torch.nn.functional.cross_entropy(logits, torch.arange(ROWS)).backward()
            with torch.no_grad():
                beside, alone = (
                    self.model.eval()(**collate(of)).logits[-1]
                    for of in ([rows[i] for i in range(ROWS)], [rows[ROWS - 1]])
                )
        except RefitError as error:
            return one_line(error, 300)
        except (
            Exception
        ) as error:  # what foreign code raises is of any type, and none of it is Refit's own
            return f"{type(error).__name__}: {one_line(error, 200)}"
        finally:
            self.model.zero_grad(set_to_none=True)
        if not bool(logits.isfinite().all()):
            return "its outputs are not finite"
        if any(of.grad is None for of in pixels):
            return "no gradient reaches the pixels, by which the report shows where the model looks"
        if not torch.allclose(beside, alone, atol=1e-3, rtol=1e-3):
            side = getattr(self.processor, "padding_side", None)
            return f"it says something else of a row beside a longer one{f', padded on the {side}: padding_side of its tokenizer_config.json' if side else ''}"
        return None


def _differs(settings: Any, other: Any) -> str:
    changed = {name: of for name, of in vars(other).items() if of != getattr(settings, name)}
    return ", ".join(f"modality.{name}: {of}" for name, of in changed.items())
