"""Leave the model as it was trained: safetensors that transformers opens."""

import shutil
from pathlib import Path
from typing import Any

from stages.contract.problem import Problem
from stages.contract.protocols import Finished
from stages.models import loading
from stages.params.compute import Compute
from stages.params.export import Plain

GRADIENTS = True


def write(finished: Finished, into: Path, _: Plain) -> None:
    """Copy the folder of the trained model."""
    shutil.copytree(finished.folder, into)


def load(of_y: Problem, folder: Path, modality: str, labels: list[str], compute: Compute) -> Any:
    """Return the model of transformers on its device, in evaluation mode."""
    return loading.ready(of_y, folder, modality, labels, compute.memory_format)
