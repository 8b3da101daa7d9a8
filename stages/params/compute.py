"""With what the work is done."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stages.params.types import Count, Strict


@dataclass(frozen=True)
class Compute(Strict):
    """With what the work is done."""

    threads: Annotated[int, Field(ge=1, le=1024)]
    """of torch; belongs to the result: another number gives other weights"""
    dtype: Literal["auto", "float32", "bfloat16"]
    """of the arithmetic (autocast), weights are float32; auto is bfloat16 on a processor that has it by its flags, else float32"""
    memory_format: Literal["contiguous_format", "channels_last"]
    """of pictures and convolutions"""
    batch_size: Count
    """rows scored at once"""
