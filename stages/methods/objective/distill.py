"""Minimise the loss of rows, and how far the model is from a teacher.

The teacher's outputs count at a temperature, at which they also tell which wrong labels are nearly
right (Hinton, Vinyals & Dean 2015). If asked for, what reaches the head counts too: rows that are
alike to the teacher become alike to the model, whatever the widths (Tung & Mori 2019).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.contract import learning as contract
from stages.contract import plugins, store
from stages.contract.errors import ModelError
from stages.contract.escape import extract
from stages.contract.learning import BESIDE, Inputs, Learning, read
from stages.contract.progress import Progress
from stages.contract.protocols import Start
from stages.methods import losses
from stages.models import device, linear, loading, saved
from stages.models.saved import Saved
from stages.params.finetune import Distill


@dataclass(frozen=True)
class Loss:
    """(1 - share) times the loss of the rows, share times the distance from the teacher."""

    plain: contract.Loss
    head: str
    one_label: bool
    labels: int
    settings: Distill

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs.

        Validation, which has no teacher, is the problem's own loss.
        """
        if BESIDE not in inputs:
            return self.plain(model, inputs, targets, items)
        taught, rows = inputs[BESIDE], len(targets) if items is None else items
        if self.settings.features:
            reached, outputs = losses.reaching(model, self.head, inputs)
        else:
            reached, outputs = None, model(**read(inputs))
        loss, _ = self.plain(lambda **_: outputs, {}, targets, items)
        apart = self._distance(outputs.logits.float(), taught["outputs"])
        if reached is not None:
            apart = apart + self.settings.features * _unlike(reached, taught["features"])
        return (1 - self.settings.share) * loss + self.settings.share * apart / rows, outputs

    def _distance(self, outputs: Any, taught: Any) -> Any:
        """Return the sum over rows of the distance of outputs from the teacher's."""
        from torch.nn import functional

        heat = self.settings.temperature
        if not self.labels:
            return (outputs - taught).square().mean(1).sum()
        if not self.one_label:
            likely = (taught / heat).sigmoid()
            apart = functional.binary_cross_entropy_with_logits(
                outputs / heat, likely, reduction="none"
            )
            return heat**2 * apart.mean(1).sum()
        logs, likely = (outputs / heat).log_softmax(-1), (taught / heat).softmax(-1)
        return heat**2 * functional.kl_div(logs, likely, reduction="sum")


def _unlike(features: Any, taught: Any) -> Any:
    """Return how far the rows' likenesses to each other differ (rows, width), for each row."""
    from torch.nn.functional import normalize

    alike, right = (normalize(of @ of.T, dim=1) for of in (features, taught.float()))
    return (alike - right).square().sum()


def prepare(start: Start, learning: Learning, settings: Distill) -> Learning:
    """Return what to learn from: rows with what the teacher says of them, which is computed here.

    Raises ModelError unless the teacher's bytes are those of its sha256, and its labels the task's.
    """
    taught = _asked(start, *_found(start, settings))

    def together(batch: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        return {name: torch.stack([one[name] for one in batch]) for name in batch[0]}

    one_label = losses.one_label(start.model.config)
    loss = Loss(learning.loss, losses.head(start.new), one_label, len(start.labels), settings)
    return contract.carry(replace(learning, loss=loss), taught, together)


def _found(start: Start, settings: Distill) -> tuple[Path, Saved]:
    """Return the teacher's folder and model.json, once its bytes and labels are found right."""
    place = "finetune.objective"
    try:
        folder, sha256 = start.raw(settings.teacher)
    except FileNotFoundError:
        raise ModelError(
            f"{place}.teacher: data/raw/{settings.teacher} is not here; run "
            f"`dvc repro fetch@{settings.teacher}` first"
        ) from None
    if sha256 != settings.sha256:
        raise ModelError(
            f"{place}.sha256: the teacher in {folder} is {sha256}; write that down if it is the "
            "one that is meant"
        )
    if not (folder / store.DESCRIBED).is_file():
        raise ModelError(
            f"{place}.teacher: {folder} has no {store.DESCRIBED}; bring a registered version with "
            "`refit reuse NAME TASK@N`"
        )
    described = saved.read(folder / store.DESCRIBED)
    if described.modality["name"] != start.of_x.name:
        raise ModelError(
            f"{place}.teacher: reads {described.modality['name']}, the task {start.of_x.name}"
        )
    of_y = plugins.problem(described.problem)
    if (of_y.KIND, described.labels) != (start.of_y.KIND, start.labels):
        raise ModelError(
            f"{place}.teacher: its labels are {_named(described.labels)}, those of the task "
            f"{_named(start.labels)}; take a teacher of the same labels"
        )
    return folder, described


def _named(labels: list[str]) -> str:
    return extract(", ".join(labels)) if labels else "none"


def _asked(start: Start, folder: Path, described: Saved) -> list[dict[str, Any]]:
    """Return the teacher's outputs and features for each train row, which it reads unaltered."""
    import torch

    encoding = start.of_x.encoding
    model, _ = loading.load(start.of_y, folder, start.of_x.name, described.labels, new_head=False)
    model.eval().to(device.find())
    processor, settings = encoding.processor(folder), plugins.settings(described.modality)
    encoded = encoding.encode(start.samples, processor, settings)
    lengths, collate = encoding.lengths(encoded), encoding.collate(processor)
    head, taught = losses.last(model), list[Any]([None]) * len(encoded)
    with (
        torch.no_grad(),
        device.arithmetic(start.compute),
        Progress("ask the teacher", len(encoded)) as going,
    ):
        for batch, inputs in device.batches(encoded, lengths, collate, linear.BATCH):
            features, outputs = losses.reaching(model, head, inputs)
            features, logits = features.cpu(), outputs.logits.float().cpu()
            for i, place in enumerate(batch):
                taught[place] = {"outputs": logits[i].clone(), "features": features[i].clone()}
            going.advance(len(batch))
    return taught
