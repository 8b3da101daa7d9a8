"""Minimise the loss of rows, and of the same rows after the small shift that hurts most.

What is shifted is what the model embeds, or the pixels. One step of `pgd` is FGM with norm l2
(Miyato, Dai & Goodfellow 2017) and FGSM with norm inf (Goodfellow, Shlens & Szegedy 2015), several
are PGD (Madry et al. 2018); `freelb` takes the mean loss of all steps (Zhu et al. 2020).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stages.contract import learning as contract
from stages.contract.learning import Inputs, Learning
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Adversarial

TINY = 1e-12
READ = ("reached", "pixel_values")  # inputs that can be shifted; else embeddings are


@dataclass(frozen=True)
class Loss:
    """(1 - share) times the loss of the rows, share times that of the shifted ones."""

    plain: contract.Loss
    of: Callable[[Any, Any, Any], Any]
    settings: Adversarial

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs for the rows as they are.

        Validation, which takes no gradient, is of the rows as they are alone.
        """
        import torch

        if not torch.is_grad_enabled():
            return self.plain(model, inputs, targets, items)
        run = _runner(model, inputs)
        outputs, shift, values = run(None)
        clean = self.of(outputs.logits, targets, items)
        size = _size(values, inputs.get("attention_mask"), self.settings)
        (gradient,) = torch.autograd.grad(clean, shift, retain_graph=True)
        shifted = list[Any]()
        for step in range(self.settings.steps):
            more = step + 1 < self.settings.steps
            shift = _stepped(shift.detach(), gradient, size, self.settings).requires_grad_(more)
            loss = self.of(run(shift)[0].logits, targets, items)
            if more:
                (gradient,) = torch.autograd.grad(loss, shift, retain_graph=True)
            shifted.append(loss)
        hurt = shifted[-1] if self.settings.attack == "pgd" else sum(shifted) / len(shifted)
        return (1 - self.settings.share) * clean + self.settings.share * hurt, outputs


def _runner(model: Any, inputs: Inputs) -> Callable[[Any], tuple[Any, Any, Any]]:
    """Return what runs a model on shifted inputs.

    It takes the shift, or None for one of zeros, and returns the model's outputs, the shift and
    what was shifted.
    """
    import torch

    def shifted(values: Any, shift: Any) -> tuple[Any, Any]:
        if shift is None:
            shift = torch.zeros_like(values, requires_grad=True)
        return values + shift, shift

    def of_input(shift: Any) -> tuple[Any, Any, Any]:
        name = next(name for name in READ if name in inputs)
        moved, shift = shifted(inputs[name], shift)
        return model(**inputs | {name: moved}), shift, inputs[name]

    def of_embeddings(shift: Any) -> tuple[Any, Any, Any]:
        seen = list[Any]()

        def move(_: Any, __: Any, embedded: Any) -> Any:
            moved, used = shifted(embedded, shift)
            seen.extend((used, embedded.detach()))
            return moved

        hook = model.get_input_embeddings().register_forward_hook(move)
        try:
            return model(**inputs), *seen
        finally:
            hook.remove()

    return of_input if any(name in inputs for name in READ) else of_embeddings


def _size(values: Any, mask: Any, settings: Adversarial) -> Any:
    """Return how far each row may be shifted: a share of its own length, or of its typical value.

    Padding counts for nothing.
    """
    if mask is not None and mask.shape == values.shape[:2]:
        values = values * mask[..., None]
    if settings.norm == "l2":
        return settings.radius * _each(values.flatten(1).norm(dim=1), values)
    typical = values.flatten(1).square().mean(1).sqrt()
    return settings.radius * _each(typical, values)


def _stepped(shift: Any, gradient: Any, size: Any, settings: Adversarial) -> Any:
    """Return a shift after a step uphill, as far as the size allows."""
    step = size if settings.steps == 1 else 2 * size / settings.steps
    if settings.norm == "inf":
        moved = shift + step * gradient.sign()
        return moved.minimum(size).maximum(-size)
    moved = shift + step * gradient / (_lengths(gradient) + TINY)
    return moved * (size / (_lengths(moved) + TINY)).clamp(max=1)


def _lengths(values: Any) -> Any:
    return _each(values.flatten(1).norm(dim=1), values)


def _each(numbers: Any, values: Any) -> Any:
    """Return a number for each row in the shape in which it multiplies the rows."""
    return numbers.view(-1, *[1] * (values.ndim - 1))


def prepare(start: Start, learning: Learning, settings: Adversarial) -> Learning:
    """Return what to learn from, with the loss for the problem that the model was loaded for."""
    loss = Loss(learning.loss, losses.of_problem(start.model.config), settings)
    return replace(learning, loss=loss, passes=1 + settings.steps)
