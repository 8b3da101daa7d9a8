"""The form in which a model leaves."""

from dataclasses import dataclass
from typing import Literal

from stages.params.types import Count, Fraction, Strict


@dataclass(frozen=True)
class Plain(Strict):
    """The weights as they were trained, adapters merged in (safetensors, float32)."""

    name: Literal["plain"]


@dataclass(frozen=True)
class Pruned(Strict):
    """The weights without the smallest of them (safetensors, float32)."""

    name: Literal["pruned"]
    what: Literal["weights", "neurons"]
    """weights: the smallest of each matrix become 0, which saves time nowhere; neurons: the least
    of each feed-forward layer are taken out, which makes the model smaller and faster"""
    share: Fraction
    """share of them that goes"""


@dataclass(frozen=True)
class Int8(Strict):
    """Linear layers in whole numbers of 8 bits, computed by torch on a CPU (dynamic)."""

    name: Literal["int8"]


@dataclass(frozen=True)
class Onnx(Strict):
    """A graph of ONNX, computed by ONNX Runtime."""

    name: Literal["onnx"]
    rows: Count
    """validation rows on which it must agree with torch"""


@dataclass(frozen=True)
class OnnxInt8(Strict):
    """The same in whole numbers of 8 bits."""

    name: Literal["onnx_int8"]
    rows: Count
    """validation rows on which float32 must agree with torch, and that static is calibrated on"""
    scales: Literal["dynamic", "static"]
    """of what goes through the model: dynamic finds them in each batch (for texts), static once
    (for convolutions)"""


Export = Plain | Pruned | Int8 | Onnx | OnnxInt8
