"""Leave the model as a graph of ONNX, which ONNX Runtime computes without torch."""

from pathlib import Path
from typing import Any

from stages.contract.problem import Problem
from stages.contract.protocols import Finished
from stages.models import graphs
from stages.params.compute import Compute
from stages.params.export import Onnx

GRADIENTS = False


def write(finished: Finished, into: Path, settings: Onnx) -> None:
    """Write model.onnx, which predicts as the trained model does, and what encodes its inputs."""
    graphs.write(finished, into, settings.rows)


def load(
    of_y: Problem,  # noqa: ARG001
    folder: Path,
    modality: str,  # noqa: ARG001
    labels: list[str],  # noqa: ARG001
    compute: Compute,
) -> Any:
    """Return the graph on the CPU; it computes in float32 whatever compute.dtype says."""
    return graphs.load(folder, compute)
