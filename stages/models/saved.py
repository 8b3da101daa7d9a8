"""What a model folder is: model.json, written here and read here."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stages.contract import receipts


@dataclass(frozen=True)
class Base:
    """The base model that a model was made from."""

    source: str
    sha256: str


@dataclass(frozen=True)
class Saved:
    """A trained or exported model, or a cheap one; the folder model/ beside it has its weights."""

    task: str
    modality: dict[str, Any]
    """the settings with which x is encoded"""
    problem: str
    labels: list[str]
    """in the order of the outputs; empty if the problem has none"""
    base: Base
    sha256: str
    """of the files in model/"""
    form: str = "plain"
    """the form that export gave it: stages/methods/export/FORM.py loads it"""
    baseline: dict[str, Any] | None = None
    """the settings of a cheap model; null for a fine-tuned one"""

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        receipts.write_json(path, json.loads(json.dumps(asdict(self))))


def read(path: Path) -> Saved:
    """Read model.json; raises ValueError if it is not one."""
    return TypeAdapter(Saved).validate_json(path.read_bytes(), strict=True)
