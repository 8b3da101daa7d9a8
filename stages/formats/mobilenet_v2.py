"""Turn torchvision's MobileNetV2 of ImageNet, a pickled state dict, into a transformers folder.

Sandler et al. 2018; the 1,000 classes are in ImageNet's order and have no names in the file. The
pickle is opened with weights_only: this reads tensors and calls nothing that the pickle names.
"""

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from stages.contract import receipts
from stages.contract.errors import ModelError
from stages.contract.escape import extract
from stages.models import pretrained
from stages.params.sources import MobileNetV2

CLASSES = 1000
DAMAGED = (UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, LookupError,
           AssertionError, EOFError, OSError)  # fmt: skip
PROCESSOR = {
    "image_processor_type": "MobileNetV2ImageProcessor",
    "do_resize": True, "size": {"shortest_edge": 256}, "resample": 2,  # bilinear
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip
STEM = {"first_conv.convolution": "0.0", "first_conv.normalization": "0.1",
        "conv_3x3.convolution": "1.conv.0.0", "conv_3x3.normalization": "1.conv.0.1",
        "reduce_1x1.convolution": "1.conv.1", "reduce_1x1.normalization": "1.conv.2"}  # fmt: skip
BLOCK = {"expand_1x1.convolution": "0.0", "expand_1x1.normalization": "0.1",
         "conv_3x3.convolution": "1.0", "conv_3x3.normalization": "1.1",
         "reduce_1x1.convolution": "2", "reduce_1x1.normalization": "3"}  # fmt: skip
MODULES = {  # transformers' name -> torchvision's
    **{f"mobilenet_v2.conv_stem.{ours}": f"features.{theirs}" for ours, theirs in STEM.items()},
    **{
        f"mobilenet_v2.layer.{i}.{ours}": f"features.{i + 2}.conv.{theirs}"
        for i in range(16)
        for ours, theirs in BLOCK.items()
    },
    "mobilenet_v2.conv_1x1.convolution": "features.18.0",
    "mobilenet_v2.conv_1x1.normalization": "features.18.1",
    "classifier": "classifier.1",
}


def convert(folder: Path, settings: MobileNetV2) -> None:
    """Replace the state dict with config.json, model.safetensors and preprocessor_config.json."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    path = pretrained.locate(folder, settings.file)
    config = MobileNetV2Config(
        tf_padding=False,
        layer_norm_eps=1e-5,
        num_labels=CLASSES,  # pyright: ignore[reportCallIssue]
    )
    model = pretrained.build(
        MobileNetV2ForImageClassification,
        config,
        _read(path, settings.file),
        _called,
        settings.file,
    )
    pretrained.save(model, folder)
    receipts.write_json(folder / "preprocessor_config.json", PROCESSOR)
    path.unlink()


def _read(path: Path, file: str) -> dict[str, Any]:
    import torch

    try:
        # a warning about the pickle's age is not Refit's to print
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        # torch's own words advise loading it without weights_only
        raise ModelError(
            f"{extract(file)}: is damaged, or asks for more than tensors, "
            "and no code of a pickle is run; bring torchvision's file"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise ModelError(
            f"{extract(file)}: is no state dict, which names tensors and contains nothing else; "
            "bring torchvision's file"
        )
    return state


def _called(name: str) -> str:
    """Return torchvision's name for a tensor of the model."""
    module, _, tensor = name.rpartition(".")
    return f"{MODULES[module]}.{tensor}"
