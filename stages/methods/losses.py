"""Compute the loss that a problem has, whatever else an objective adds to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stages.contract.learning import Inputs, read


@dataclass(frozen=True)
class Plain:
    """The problem's own loss of logits (rows, outputs), as learning.Loss says."""

    of: Callable[[Any, Any, Any], Any]

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs."""
        outputs = model(**read(inputs))
        return self.of(outputs.logits, targets, items), outputs


def of_problem(configuration: Any) -> Callable[[Any, Any, Any], Any]:
    """Return the mean loss of logits (rows, outputs) against targets, as transformers has it.

    It is the cross-entropy of one label, the binary cross-entropy of several, or the squared error
    of numbers, by the problem_type of a model's configuration. A third argument, if it is not None,
    is the number of rows by which the sum is divided instead (learning.Loss).
    """
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    def loss(logits: Any, targets: Any, items: Any = None) -> Any:
        mean = ForSequenceClassificationLoss(targets, logits, configuration)
        return mean if items is None else mean * len(targets) / items

    return loss


def one_label(configuration: Any) -> bool:
    """Tell whether the outputs are logits of labels that exclude each other."""
    return configuration.problem_type in (None, "single_label_classification")


def weights(targets: Sequence[int], balanced: bool) -> Any:
    """Return a weight for each label (labels,), by its rows, or None unless they are balanced."""
    import torch

    if not balanced:
        return None
    rows = torch.bincount(torch.tensor(targets))
    return len(targets) / (len(rows) * rows.clamp(min=1))


def reaching(model: Any, head: str, inputs: Inputs) -> tuple[Any, Any]:
    """Return what reaches a model's head (rows, width), float32, and the model's outputs.

    A method may have wrapped the head in something else, inside which its name ends the same.
    """
    reached = list[Any]()
    layer = next(module for name, module in model.named_modules() if f".{name}".endswith(head))
    hook = layer.register_forward_pre_hook(lambda _, given: reached.append(given[0]))
    try:
        outputs = model(**read(inputs))
    finally:
        hook.remove()
    return reached[0].float().flatten(1), outputs


def head(new: frozenset[str]) -> str:
    """Return how the name of the first layer that is new ends, with a dot before it."""
    return f".{min(new).rpartition('.')[0]}"


def last(model: Any) -> str:
    """Return how the name of a model's last linear layer ends, with a dot before it."""
    import torch

    layers = [name for name, of in model.named_modules() if isinstance(of, torch.nn.Linear)]
    return f".{layers[-1]}"


def contrast(features: Any, targets: Any, temperature: float) -> Any:
    """Return the sum over rows of how near (by cosine) other labels are to features (rows, width).

    It is the supervised contrastive loss (Khosla et al. 2020). A row whose label no other row of
    the batch has adds nothing.
    """
    import torch

    features = torch.nn.functional.normalize(features, dim=1)
    alike = features @ features.T / temperature
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    logs = alike.masked_fill(itself, -torch.inf).log_softmax(1).masked_fill(itself, 0)
    partners = (targets[:, None] == targets[None]) & ~itself
    return -((logs * partners).sum(1) / partners.sum(1).clamp(min=1)).sum()
