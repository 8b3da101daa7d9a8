"""Turn Open-NSFW's thin ResNet-50 (Yahoo 2016) from an ONNX graph into a transformers folder.

transformers can then read the model and train it. The graph states each BatchNorm's running mean m
and shift, but folds gamma / sqrt(variance + eps) into one scale. A network like that predicts as it
should and learns nothing, because batch statistics would undo the scale. So the variances are
measured on crops of photographs, and gamma = scale * sqrt(variance + eps) leaves every prediction
as it was.

transformers pads the max-pool on both sides, the original only at the end: it looks two pixels
further. On crops of photographs at their own resolution that moves the probability by at most
0.005, on magnified ones by up to 0.05.
"""

from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.contract import receipts
from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line
from stages.models import pretrained
from stages.params.sources import OpenNsfw

CLASSES = {0: "sfw", 1: "nsfw"}
DEPTHS = (3, 4, 6, 3)  # blocks of each stage
# Convs of a block, in the graph's order
FIRST, OTHER = ("layer.0", "layer.1", "shortcut", "layer.2"), ("layer.0", "layer.1", "layer.2")
# after each Conv: its bias, the mean, the scale, the shift
NORMALISED = ("Add", "Sub", "Mul", "Add")
MOVED = ("Cast", "Transpose")  # these change no value
EPSILON = 1e-5
CROPS, BATCH, SIDE, SEED = 64, 16, 224, 0
MEAN = (123.0, 117.0, 104.0)  # of red, green, blue; the graph takes blue first
# the original also writes the resized picture as JPEG and reads it again, which no processor does
PROCESSOR = {
    "image_processor_type": "BitImageProcessor", "do_convert_rgb": True,
    # bilinear, square whatever the picture's shape
    "do_resize": True, "size": {"height": 256, "width": 256}, "resample": 2,
    "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [m / 255 for m in MEAN], "image_std": [1 / 255] * 3,
}  # fmt: skip


class Convolution(NamedTuple):
    """A Conv of the graph and the BatchNorm after it, whose gamma and variance are one scale."""

    weight: Any
    mean: Any
    scale: Any
    shift: Any

    def tensors(self, name: str) -> dict[str, Any]:
        """Return the tensors of a layer of this name in transformers' ResNet."""
        return {
            f"{name}.convolution.weight": self.weight,
            f"{name}.normalization.weight": self.scale,
            f"{name}.normalization.bias": self.shift,
            f"{name}.normalization.running_mean": self.mean,
            f"{name}.normalization.running_var": np.full_like(self.mean, 1 - EPSILON),
            f"{name}.normalization.num_batches_tracked": np.array(0),
        }


def convert(folder: Path, settings: OpenNsfw) -> None:
    """Replace the ONNX file with config.json, model.safetensors and preprocessor_config.json."""
    from transformers import ResNetConfig, ResNetForImageClassification

    path = pretrained.locate(folder, settings.file)
    weights = _weights(_read(path, settings.file), settings.file)
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[128, 256, 512, 1024],
        depths=list(DEPTHS),
        layer_type="bottleneck",
        downsample_in_bottleneck=True,
        downsample_in_first_stage=False,
        id2label=CLASSES,
        label2id={name: i for i, name in CLASSES.items()},
    )
    model = pretrained.build(ResNetForImageClassification, config, weights, str, settings.file)
    _recover_variances(model)
    pretrained.save(model, folder)
    receipts.write_json(folder / "preprocessor_config.json", PROCESSOR)
    path.unlink()


# ---- the graph -----------------------------------------------------------------------------------


def _read(path: Path, file: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
    except DecodeError as error:
        raise ModelError(
            f"{extract(file)}: is no ONNX file ({one_line(error, 200)}); bring the whole file"
        ) from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ModelError(
            f"{extract(file)}: keeps its weights in another file; bring one file with all of them"
        )
    return graph


def _weights(graph: Any, file: str) -> dict[str, Any]:
    """Return the tensors of the graph under transformers' names, with variances as if they were 1.

    The tensors of the Convs are taken in the order of the graph.
    """
    import torch

    constants = _constants(graph)
    convolutions, names = list(_convolutions(graph, constants, file)), list(_names())
    dense, bias = _classifier(graph, constants)
    if len(convolutions) != len(names) or len(dense) != 1 or len(bias) != 1 or dense[0] is None:
        raise _foreign(
            file,
            f"it has {len(convolutions)} Conv and {len(dense)} MatMul nodes, "
            f"not {len(names)} and 1",
        )
    tensors: dict[str, Any] = {"classifier.1.weight": dense[0].T, "classifier.1.bias": bias[0]}
    for name, entry in zip(names, convolutions, strict=True):
        tensors |= entry.tensors(name)
    stem = f"{names[0]}.convolution.weight"
    tensors[stem] = tensors[stem][:, ::-1]  # the model takes red first from now on
    return {
        name: torch.tensor(np.ascontiguousarray(values) if values.ndim else values)
        for name, values in tensors.items()
    }


def _classifier(graph: Any, constants: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the weights of every MatMul, and what is added at the graph's end."""
    dense = [constants.get(node.input[1]) for node in graph.node if node.op_type == "MatMul"]
    last = [name for node in graph.node[-3:] if node.op_type == "Add" for name in node.input]
    return dense, [constants[name] for name in last if name in constants]


def _constants(graph: Any) -> dict[str, Any]:
    from onnx import numpy_helper

    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return tensors | {
        node.output[0]: tensors[node.input[0]]
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in tensors
    }


def _convolutions(graph: Any, constants: dict[str, Any], file: str) -> Iterator[Convolution]:
    """Yield each Conv with the four constants that are applied to its output, one after another."""
    users = defaultdict[str, list[Any]](list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    for node in graph.node:
        if node.op_type == "Conv":
            chain = _chain(node, users, constants)
            if (
                tuple(op for op, _ in chain) != NORMALISED
                or any(values is None for _, values in chain)
                or node.input[1] not in constants
            ):
                raise _foreign(
                    file,
                    f"{extract(node.name)} is not followed by {', '.join(NORMALISED)} of constants",
                )
            bias, mean, scale, shift = (values for _, values in chain)
            yield Convolution(constants[node.input[1]], mean - bias, scale, shift)


def _chain(
    node: Any, users: dict[str, list[Any]], constants: dict[str, Any]
) -> list[tuple[str, Any]]:
    """Return what is done to a node's output, one after another, each with its constant, if any."""
    chain = list[tuple[str, Any]]()
    while len(chain) < len(NORMALISED) and len(users[node.output[0]]) == 1:
        (node,) = users[node.output[0]]
        if node.op_type not in MOVED:
            flat = (constants[name].reshape(-1) for name in node.input if name in constants)
            chain.append((node.op_type, next(flat, None)))
    return chain


def _names() -> Iterator[str]:
    yield "resnet.embedder.embedder"
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            yield from (
                f"resnet.encoder.stages.{stage}.layers.{block}.{layer}"
                for layer in (OTHER if block else FIRST)
            )


def _foreign(file: str, fact: str) -> ModelError:
    return ModelError(
        f"{extract(file)}: is not Open-NSFW's thin ResNet-50: {fact}; "
        "check that `format` is that of this file"
    )


# ---- variances -----------------------------------------------------------------------------------


def _recover_variances(model: Any) -> None:
    """Measure each BatchNorm's input variance; split its scale into gamma and that variance.

    The model is changed in place.
    """
    import torch

    sums = _sums(model)
    with torch.no_grad():
        for norm, (total, squares, number) in sums.items():
            variance = squares / number - (total / number) ** 2
            norm.weight.mul_(torch.sqrt(variance + norm.eps))
            norm.running_var.copy_(variance)


def _sums(model: Any) -> dict[Any, list[Any]]:
    """Return the sum of each BatchNorm's inputs, of their squares, and how many there are."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    sums: dict[Any, list[Any]] = {norm: [0.0, 0.0, 0] for norm in norms}

    def add(norm: Any, inputs: tuple[Any]) -> None:
        values, entry = inputs[0].double(), sums[norm]
        entry[0] = entry[0] + values.sum((0, 2, 3))
        entry[1] = entry[1] + values.square().sum((0, 2, 3))
        entry[2] += values.numel() // values.shape[1]

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    with torch.inference_mode(), _one_thread():
        for batch in torch.tensor(_crops()).split(BATCH):
            model(batch)
    for hook in hooks:
        hook.remove()
    return sums


def _crops() -> Any:
    """Return crops of photographs as the model takes them: (crops, 3, side, side).

    scikit-learn and matplotlib bring the photographs along.
    """
    from matplotlib import cbook
    from PIL import Image
    from sklearn.datasets import load_sample_images

    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as portrait:
        photographs = [
            *(Image.fromarray(photograph) for photograph in load_sample_images().images),
            portrait.convert("RGB"),
        ]
    draw = np.random.default_rng(SEED)
    crops = [_crop(photographs[number % len(photographs)], draw) for number in range(CROPS)]
    return np.stack(crops).transpose(0, 3, 1, 2)


def _crop(photograph: Any, draw: np.random.Generator) -> Any:
    from PIL import Image

    side = int(min(photograph.size) * draw.uniform(0.3, 1))
    left, top = (int(draw.integers(0, length - side, endpoint=True)) for length in photograph.size)
    crop = photograph.resize(
        (SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
    )
    return np.asarray(crop, dtype=np.float32) - np.array(MEAN, dtype=np.float32)


@contextmanager
def _one_thread() -> Generator[None]:
    """Add up in one order on every machine, which gives equal bytes each time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
