"""Try a base model as a whole before the work starts, in seconds.

A batch of the largest rows goes forward and backward through processor, base and head.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError, RefitError
from stages.contract.escape import one_line
from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.models import loading

ROWS = 2
LABELS = ["0", "1"]


def require(folder: Path, of_x: Modality, of_y: Problem, modality: Any) -> None:
    """Raise ModelError if a folder's base model cannot learn from rows of the largest size.

    The modality's settings say how large rows can be; the error names settings that would do.
    """
    base = _Base(folder, of_x, of_y, modality.name)
    if (wrong := base.wrong(modality)) is None:
        return
    other = of_x.encoding.within(modality, lambda settings: base.wrong(settings) is None)
    would = f"; {_differs(modality, other)} would do" if other else "; take another base"
    sizes = ", ".join(
        f"modality.{name}: {value}"
        for name, value in vars(modality).items()
        if other and value != getattr(other, name)
    )
    raise ModelError(
        f"{folder}: the base model cannot be trained{f' with {sizes}' if sizes else ''} "
        f"({wrong}){would}"
    )


def fitting(folder: Path, of_x: Modality, of_y: Problem, modality: Any) -> Any:
    """Return the modality's settings, or near ones if a folder's base model does not take them.

    Raises ModelError if the base model takes none.
    """
    base = _Base(folder, of_x, of_y, modality.name)
    if (wrong := base.wrong(modality)) is None:
        return modality
    if (
        other := of_x.encoding.within(modality, lambda settings: base.wrong(settings) is None)
    ) is None:
        raise ModelError(f"{folder}: the base model cannot be trained ({wrong}); take another base")
    return other


@dataclass(frozen=True)
class _Passed:
    """What came of a batch: its logits, its pixels, and the last row's logits twice.

    They are computed beside a longer row, and alone.
    """

    logits: Any
    pixels: list[Any]
    beside: Any
    alone: Any


class _Base:
    def __init__(self, folder: Path, of_x: Modality, of_y: Problem, name: str) -> None:
        self.of_x = of_x
        self.model, _ = loading.load(of_y, folder, name, LABELS, new_head=True)
        self.processor = of_x.encoding.processor(folder)

    def wrong(self, settings: Any) -> str | None:
        """Return why a batch does not go through, or null if it does.

        It runs on the CPU, where an index out of range raises an error and does not abort the
        process.
        """
        try:
            passed = self._passed(settings)
        except RefitError as error:
            return one_line(error, 300)
        except Exception as error:  # foreign code may raise any type, and none of Refit's own
            return f"{type(error).__name__}: {one_line(error, 200)}"
        finally:
            self.model.zero_grad(set_to_none=True)
        return self._fault(passed)

    def _passed(self, settings: Any) -> _Passed:
        """Pass a batch forward and backward; raises whatever foreign code raises."""
        import torch

        encoding = self.of_x.encoding
        encoding.stated(self.processor, settings)
        rows = encoding.largest(self.processor, settings, ROWS)
        collate, batch = encoding.collate(self.processor), [rows[i] for i in range(ROWS)]
        inputs = collate(batch)
        pixels = [value.requires_grad_() for value in inputs.values() if value.is_floating_point()]
        logits = self.model.train()(**inputs).logits
        if logits.shape != (ROWS, len(LABELS)):
            raise ModelError(
                f"its outputs have the shape {tuple(logits.shape)}, "
                f"not {ROWS} rows of {len(LABELS)} labels"
            )
        torch.nn.functional.cross_entropy(logits, torch.arange(ROWS)).backward()
        with torch.no_grad():
            beside, alone = (
                self.model.eval()(**collate(of)).logits[-1] for of in (batch, batch[-1:])
            )
        return _Passed(logits, pixels, beside, alone)

    def _fault(self, passed: _Passed) -> str | None:
        import torch

        if not bool(passed.logits.isfinite().all()):
            return "its outputs are not finite"
        if any(value.grad is None for value in passed.pixels):
            return "no gradient reaches the pixels, by which the report shows where the model looks"
        if not torch.allclose(passed.beside, passed.alone, atol=1e-3, rtol=1e-3):
            side = getattr(self.processor, "padding_side", None)
            padded = f", padded on the {side}: padding_side of its tokenizer_config.json"
            return f"it says something else of a row beside a longer one{padded if side else ''}"
        return None


def _differs(settings: Any, other: Any) -> str:
    changed = {
        name: value for name, value in vars(other).items() if value != getattr(settings, name)
    }
    return ", ".join(f"modality.{name}: {value}" for name, value in changed.items())
