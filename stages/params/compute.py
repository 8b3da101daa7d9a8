"""How the work is computed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stages.params.types import Count, Strict


@dataclass(frozen=True)
class Compute(Strict):
    """How the work is computed."""

    threads: Annotated[int, Field(ge=1, le=1024)]
    """threads of torch; they belong to the result: another number gives other weights"""
    dtype: Literal["auto", "float32", "bfloat16"]
    """type of the arithmetic (autocast), while weights are float32; auto is bfloat16 on a processor
    whose flags list it, else float32"""
    memory_format: Literal["contiguous_format", "channels_last"]
    """memory format of pictures and convolutions"""
    batch_size: Count
    """rows in each batch that is scored"""
