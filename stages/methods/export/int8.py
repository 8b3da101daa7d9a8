"""Leave the model with linear layers in whole numbers of 8 bits, which torch computes on a CPU.

Each row of a matrix has a scale; that of what goes through a layer is found in each batch (dynamic
quantisation). What is no linear layer stays float32.
"""

from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.problem import Problem
from stages.contract.protocols import Finished
from stages.models import device, forms, loading
from stages.params.compute import Compute
from stages.params.export import Int8

FILE = "int8.safetensors"  # a name under which transformers does not look for weights
WEIGHT, SCALE, BIAS = "weight_int8", "weight_scale", "bias"
MOST = 127
LEAST = 0.25  # share of a model's weights that linear layers must have

GRADIENTS = False


def write(finished: Finished, into: Path, settings: Int8) -> None:  # noqa: ARG001
    """Write the weights in 8 bits, and what encodes the model's inputs.

    Raises ModelError if linear layers have too few of the weights for that to be worth it.
    """
    import torch
    from safetensors.torch import save_file

    model = forms.trained(finished)
    layers = {name: of for name, of in model.named_modules() if isinstance(of, torch.nn.Linear)}
    share = sum(of.weight.numel() for of in layers.values()) / model.num_parameters()
    if share < LEAST:
        raise ModelError(
            f"export: linear layers have {share:.0%} of this model's weights; say onnx_int8 with "
            "scales: static, which is for convolutions too"
        )
    state = dict(model.state_dict())
    for name in layers:
        weight = state.pop(f"{name}.weight")
        scale = weight.abs().amax(dim=1).clamp(min=1e-12) / MOST
        state[f"{name}.{WEIGHT}"] = (weight / scale[:, None]).round().to(torch.int8)
        state[f"{name}.{SCALE}"] = scale
    forms.lay_out(finished, into)
    save_file({name: of.contiguous().clone() for name, of in state.items()}, into / FILE)


def load(
    of_y: Problem,
    folder: Path,
    modality: str,
    labels: list[str],
    compute: Compute,  # noqa: ARG001
) -> Any:
    """Return what computes a batch on the CPU, wherever its tensors are."""
    import torch
    from safetensors.torch import load_file

    model: Any = loading.empty(of_y, folder, modality, labels)
    try:
        state = load_file(folder / FILE)
        layers = [name for name, of in model.named_modules() if isinstance(of, torch.nn.Linear)]
        for name in layers:
            weight, scale = state.pop(f"{name}.{WEIGHT}"), state.pop(f"{name}.{SCALE}")
            whole = torch._make_per_channel_quantized_tensor(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  (no public function takes whole numbers)
                weight, scale.double(), torch.zeros(len(scale), dtype=torch.int64), 0
            )
            model.set_submodule(name, _layer(whole, state.pop(f"{name}.{BIAS}", None)))
        model.load_state_dict(state)
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{folder / FILE}: is not this model's ({one_line(error, 200)}); train or bring it anew"
        ) from error
    model.eval()

    def computed(**inputs: Any) -> Any:
        outputs = model(**{name: of.cpu() for name, of in inputs.items()})
        outputs.logits = outputs.logits.to(device.find())
        return outputs

    return computed


def _layer(weight: Any, bias: Any) -> Any:
    """Return a layer that multiplies in 8 bits.

    Inputs take 7 bits, so that no sum overflows where a processor adds in 16.
    """
    import torch

    packed = torch.ops.quantized.linear_prepack(weight, bias)

    class Whole(torch.nn.Module):
        def forward(self, given: Any) -> Any:
            return torch.ops.quantized.linear_dynamic(given.float(), packed, True)

    return Whole()
