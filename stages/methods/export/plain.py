"""Leave the model as it was trained: safetensors that transformers opens."""

import shutil
from pathlib import Path
from typing import Any

from stages.contract.problem import Problem
from stages.models import device, loading
from stages.params.compute import Compute
from stages.params.export import Plain


def write(trained: Path, into: Path, _: Plain) -> None:
    """Copy the folder of the trained model."""
    shutil.copytree(trained, into)


def load(of_y: Problem, folder: Path, modality: str, labels: list[str], compute: Compute) -> Any:
    """Return the model of transformers on its device, in evaluation mode."""
    import torch

    model, _ = loading.load(of_y, folder, modality, labels, new_head=False)
    memory_format = getattr(torch, compute.memory_format)
    return model.eval().to(device.find(), memory_format=memory_format)
