"""Minimise the cross-entropy, and the distance of rows of one label from each other.

What reaches the head is drawn together for rows of one label and pushed apart for others:
supervised contrastive learning (Khosla et al. 2020), beside the cross-entropy as Gunel et al.
(2021) have it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.contract.learning import Inputs
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Contrastive


@dataclass(frozen=True)
class Loss:
    """(1 - share) times the cross-entropy, share times the contrast of a batch."""

    of: Callable[[Any, Any, Any], Any]
    head: str
    settings: Contrastive

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs.

        Validation, which takes no gradient, is the cross-entropy alone.
        """
        import torch

        if not torch.is_grad_enabled():
            outputs = model(**inputs)
            return self.of(outputs.logits, targets, items), outputs
        reached = list[Any]()
        head = next(
            module for name, module in model.named_modules() if f".{name}".endswith(f".{self.head}")
        )
        hook = head.register_forward_pre_hook(lambda _, given: reached.append(given[0]))
        try:
            outputs = model(**inputs)
        finally:
            hook.remove()
        loss = self.of(outputs.logits, targets, items)
        contrast = _contrast(reached[0].float().flatten(1), targets, self.settings.temperature)
        contrast = contrast / (len(targets) if items is None else items)
        return (1 - self.settings.share) * loss + self.settings.share * contrast, outputs


def _contrast(features: Any, targets: Any, temperature: float) -> Any:
    """Return the sum over rows (rows, width) of the contrast; a row without a partner has none."""
    import torch

    features = torch.nn.functional.normalize(features, dim=1)
    alike = features @ features.T / temperature
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    logs = alike.masked_fill(itself, -torch.inf).log_softmax(1).masked_fill(itself, 0)
    partners = (targets[:, None] == targets[None]) & ~itself
    return -((logs * partners).sum(1) / partners.sum(1).clamp(min=1)).sum()


def prepare(start: Start, _: list[Any], settings: Contrastive) -> Loss:
    """Return the loss; what reaches the first layer that is new is compared."""
    head = min(start.new).rpartition(".")[0]
    return Loss(losses.of_problem(start.model.config), head, settings)
