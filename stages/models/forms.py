"""Begin a form in which a model leaves: the trained model, and what lies beside its weights."""

import shutil
from pathlib import Path
from typing import Any

from stages.contract.protocols import Finished
from stages.models import loading

WEIGHTS = "*.safetensors"


def trained(finished: Finished) -> Any:
    """Return the model that finetune left."""
    model, _ = loading.load(
        finished.of_y, finished.folder, finished.modality, finished.labels, new_head=False
    )
    return model


def lay_out(finished: Finished, into: Path) -> None:
    """Make the form's folder: configuration and processor, without the weights."""
    shutil.copytree(finished.folder, into, ignore=shutil.ignore_patterns(WEIGHTS))
