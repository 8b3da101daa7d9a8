"""The form in which a model leaves."""

from dataclasses import dataclass
from typing import Literal

from stages.params.types import Strict


@dataclass(frozen=True)
class Plain(Strict):
    """The weights as they were trained (safetensors, float32)."""

    name: Literal["plain"]
