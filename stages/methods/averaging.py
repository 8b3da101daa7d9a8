"""Average weights: over the steps of a training while it goes on, or over its epochs at the end."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.contract.history import Entry, validated

AVERAGED, EPOCH = "averaged.safetensors", "epoch-{}.safetensors"

State = dict[str, Any]


def copied(model: Any) -> State:
    """Return a copy of a model's state on the CPU."""
    return {name: weights.detach().cpu().clone() for name, weights in model.state_dict().items()}


class Moving:
    """The exponential moving average of a model's weights over its steps.

    Early on it forgets faster, so that what the weights began as is gone after a while. Statistics
    of batch normalisation are averaged too; counts are copied.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.model, self.decay = model, decay
        self.state: State = {
            name: weights.detach().clone() for name, weights in model.state_dict().items()
        }

    def update(self, step: int) -> None:
        """Take the weights after a step (1, 2, ...) into the average."""
        decay = min(self.decay, step / (10 + step))
        for name, weights in self.model.state_dict().items():
            if weights.is_floating_point():
                self.state[name].lerp_(weights, 1 - decay)
            else:
                self.state[name].copy_(weights)

    @contextmanager
    def used(self) -> Generator[None]:
        """Let the model predict with the average, and give it its own weights back."""
        own = {name: of.detach().clone() for name, of in self.model.state_dict().items()}
        self.model.load_state_dict(self.state)
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def write(self, checkpoint: Path) -> None:
        """Keep the average with a checkpoint."""
        from safetensors.torch import save_file

        save_file(
            {name: of.cpu().clone() for name, of in self.state.items()}, checkpoint / AVERAGED
        )

    def read(self, checkpoint: Path) -> None:
        """Go on from the average that a checkpoint, which is verified, has kept."""
        from safetensors.torch import load_file

        for name, weights in load_file(checkpoint / AVERAGED).items():
            self.state[name].copy_(weights)


def keep_epoch(model: Any, epoch: int, work: Path) -> None:
    """Write the weights of an epoch, of which a soup may be made."""
    from safetensors.torch import save_file

    save_file(copied(model), work / EPOCH.format(epoch))


def soup(
    model: Any,
    entries: list[Entry],
    work: Path,
    measure: Callable[[], Entry],
    merit: Callable[[Entry], float],
) -> Entry | None:
    """Give a model the mean of the epochs that make it better, and return what validation says.

    Epochs are tried from the best to the worst, and one is taken if the mean with it is better
    than without it (greedy soup, Wortsman et al. 2022). None if the best epoch alone is best.
    """
    from safetensors.torch import load_file

    epochs = [entry for entry in validated(entries) if entry.epoch >= 1]
    best, *others = sorted(epochs, key=merit, reverse=True)
    state, taken, found = load_file(work / EPOCH.format(int(best.epoch))), [best], best
    for other in others:
        more = load_file(work / EPOCH.format(int(other.epoch)))
        share = 1 / (len(taken) + 1)
        tried = {
            name: of.lerp(more[name], share) if of.is_floating_point() else of
            for name, of in state.items()
        }
        model.load_state_dict(tried)
        measured = measure()
        if merit(measured) > merit(found):
            state, found = tried, measured
            taken.append(other)
    model.load_state_dict(state)
    if len(taken) == 1:
        return None
    named = ", ".join(f"{entry.epoch:g}" for entry in sorted(taken, key=lambda of: of.epoch))
    print(f"soup of the epochs {named}", flush=True)
    last = epochs[-1]
    return Entry(last.epoch + 1, last.step, {}, found.validation)
