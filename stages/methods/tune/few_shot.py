"""Draw rows of one label together, pair by pair, and solve the head on what comes of it.

This is SetFit (Tunstall et al. 2022) with two changes: pairs are drawn when they are asked for, so
that memory does not grow with their number, and all other rows of a batch are the negatives of a
pair (Khosla et al. 2020), so that a step tells it from many. What the names of the labels say can
be rows too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stages.contract import draws
from stages.contract import learning as contract
from stages.contract.errors import ModelError
from stages.contract.escape import extract
from stages.contract.learning import BESIDE, Inputs, Learning, Rows, parted, take
from stages.contract.protocols import Start
from stages.methods import losses, naming
from stages.models import linear
from stages.params.finetune import FewShot


class _Pairs:
    """Encoded rows, each several times, with another row of its label beside it.

    Which one is drawn anew in each epoch.
    """

    def __init__(self, rows: Rows, pairs: int) -> None:
        self.rows, self.pairs, self.epoch = rows, pairs, 0
        self.alike: dict[Any, list[int]] = {}
        for i, target in enumerate(rows.targets):
            self.alike.setdefault(target, []).append(i)

    def __len__(self) -> int:
        return self.pairs * len(self.rows)

    def __getitem__(self, i: int) -> Inputs:
        return self.__getitems__([i])[0]

    def __getitems__(self, places: Any) -> list[Inputs]:
        firsts = [i % len(self.rows) for i in places]
        others = [self._other(i) for i in places]
        encoded = take(self.rows.encoded, [*firsts, *others])
        return [
            first | {BESIDE: other}
            for first, other in zip(encoded[: len(firsts)], encoded[len(firsts) :], strict=True)
        ]

    def _other(self, i: int) -> int:
        first = i % len(self.rows)
        others = [other for other in self.alike[self.rows.targets[first]] if other != first]
        return others[int(draws.uniform("pair", self.epoch, str(i)) * len(others))]

    @property
    def anew(self) -> bool:
        """Whether rows are altered anew in each epoch; here their partners are."""
        return True

    def set_epoch(self, epoch: int) -> None:
        """Draw other partners, and alter rows anew if that is asked for."""
        self.epoch = epoch
        self.rows.set_epoch(epoch)


@dataclass(frozen=True)
class Loss:
    """How far the rows of a batch are from rows of their label, and near to others."""

    plain: contract.Loss
    head: str
    temperature: float

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs.

        On validation, where no row has a partner, it is the objective's loss of the solved head.
        """
        import torch

        if BESIDE not in inputs:
            return self.plain(model, inputs, targets, items)
        first, outputs = losses.reaching(model, self.head, inputs)
        second, _ = losses.reaching(model, self.head, inputs[BESIDE])
        total = losses.contrast(
            torch.cat([first, second]), torch.cat([targets, targets]), self.temperature
        )
        return total / (2 * (len(targets) if items is None else items)), outputs


def prepare(start: Start, learning: Learning, settings: FewShot) -> tuple[Any, Learning]:
    """Return a module whose head is solved before it predicts, and pairs to learn from.

    Raises ModelError if a label has one row only, which has no partner.
    """
    rows, collate = _with_names(start, learning.train, settings), learning.collate
    pairs = _Pairs(rows, settings.pairs)
    if alone := [start.labels[of] for of, alike in pairs.alike.items() if len(alike) < 2]:
        raise ModelError(
            f"finetune.tune: few_shot pairs rows of one label, and {extract(', '.join(alone))} "
            "has a single train row; label another, or say zero_shot"
        )
    times = settings.pairs
    train = Rows(pairs, [*rows.targets] * times, rows.lengths * times)
    layer, targets = linear.head(start.model, start.new), linear.array(rows.targets)
    start.model.requires_grad_(True)

    def together(batch: list[Inputs]) -> Inputs:
        own, others = parted(batch, BESIDE)
        return collate(own) | ({BESIDE: dict(collate(others))} if others else {})

    def solve() -> None:
        known = linear.features(start.model, layer, rows.encoded, rows.lengths, collate)
        outputs = layer.out_features
        linear.solve(start.of_y, known, targets, outputs, settings.c).put_into(layer)

    loss = Loss(learning.loss, losses.head(start.new), settings.temperature)
    return _solving(start.model, solve), replace(
        learning, train=train, collate=together, loss=loss, passes=2
    )


def _with_names(start: Start, rows: Rows, settings: FewShot) -> Rows:
    """Return rows, and a row for each text about each label."""
    if not settings.templates:
        return rows
    if start.of_x.name != "text":
        raise ModelError("finetune.tune.templates: texts are no rows beside pictures; say []")
    more, lengths = naming.encoded(start, naming.texts(start.labels, settings.templates, {}))
    targets = [i // len(settings.templates) for i in range(len(more))]
    own = take(rows.encoded, range(len(rows)))
    return Rows([*own, *more], [*rows.targets, *targets], [*rows.lengths, *lengths])


def _solving(model: Any, solve: Callable[[], None]) -> Any:
    """Return a module around a model whose head is solved anew before it predicts.

    That is after each epoch, so each is validated with the head that it is saved with.
    """
    import torch

    class Solving(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.stale = model, False

        def train(self, mode: bool = True) -> Any:
            self.stale = self.stale or mode
            return super().train(mode)

        def forward(self, labels: Any = None, **inputs: Any) -> Any:  # noqa: ARG002  (Trainer looks for it)
            if self.stale and not self.training:
                self.stale = False
                solve()
                torch.clear_autocast_cache()  # it may hold the head as it was, in bfloat16
            return self.model(**inputs)

    return Solving()


def finish(learner: Any) -> Any:
    """Return the model, whose head was solved for the epoch that is kept."""
    return learner.model
