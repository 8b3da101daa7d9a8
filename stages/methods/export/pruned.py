"""Leave the model without the smallest of its weights, or the least of its neurons.

Weights are pruned by magnitude in each matrix (Han et al. 2015); a neuron of a feed-forward layer
counts as much as the weights into it times those out of it. The model stays one that transformers
opens.
"""

import copy
from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.problem import Problem
from stages.contract.protocols import Finished
from stages.models import forms, loading
from stages.params.compute import Compute
from stages.params.export import Pruned

GRADIENTS = True


def write(finished: Finished, into: Path, settings: Pruned) -> None:
    """Write the model with fewer weights, and what encodes its inputs."""
    model = forms.trained(finished)
    if settings.what == "weights":
        _zero(model, settings.share)
    else:
        model = _narrowed(model, settings.share)
    forms.lay_out(finished, into)
    model.save_pretrained(into)


def _zero(model: Any, share: float) -> None:
    """Set the smallest weights of each matrix and convolution to 0, but those of the head."""
    import torch

    layers = [of for of in model.modules() if isinstance(of, torch.nn.Linear | torch.nn.Conv2d)]
    with torch.no_grad():
        for layer in layers[:-1]:
            size = layer.weight.abs()
            layer.weight[size <= size.flatten().kthvalue(max(1, int(share * size.numel())))[0]] = 0


def _narrowed(model: Any, share: float) -> Any:
    """Return a model whose feed-forward layers lack their least neurons."""
    import torch

    width = getattr(model.config, "intermediate_size", None)
    layers = {name: of for name, of in model.named_modules() if isinstance(of, torch.nn.Linear)}
    ups = [name for name, of in layers.items() if of.out_features == width]
    downs = [name for name, of in layers.items() if of.in_features == width]
    kept = width and round((1 - share) * width)
    if not kept or len(ups) != len(downs):
        raise ModelError(
            "export: the model has no feed-forward layers of one width from which neurons could "
            "be taken; say what: weights, or another form"
        )
    state = dict(model.state_dict())
    for up, down in zip(ups, downs, strict=True):
        counts = layers[up].weight.norm(dim=1) * layers[down].weight.norm(dim=0)
        places = counts.topk(kept).indices.sort().values
        for name in (f"{up}.weight", f"{up}.bias"):
            if name in state:
                state[name] = state[name][places]
        state[f"{down}.weight"] = state[f"{down}.weight"][:, places]
    config = copy.deepcopy(model.config)
    config.intermediate_size = kept
    made = type(model)(config)
    made.load_state_dict(state)
    return made


def load(of_y: Problem, folder: Path, modality: str, labels: list[str], compute: Compute) -> Any:
    """Return the model of transformers on its device, in evaluation mode."""
    return loading.ready(of_y, folder, modality, labels, compute.memory_format)
