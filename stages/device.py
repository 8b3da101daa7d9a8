"""Sets torch up for the work of a stage: its threads, equal results for equal seeds, and the device that torch finds."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stages.contract.params import Compute
from stages.contract.plugins import Encoded

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def find() -> str:
    """Return the device that the work is done on: cuda where torch finds one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def set_up(compute: Compute) -> str:
    """Set threads and determinism, and return the device; say so where the CPU would have to imitate bfloat16."""
    import torch

    _keep_memory()
    torch.set_num_threads(compute.threads)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler too, 1.7 s
    if find() == "cpu" and compute.dtype == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print(
            f"refit: compute.dtype: this CPU ({torch.backends.cpu.get_cpu_capability()}) has no bfloat16 and takes ten times as long for it; say float32",
            file=sys.stderr,
            flush=True,
        )
    return find()


def _keep_memory() -> None:
    """Let glibc keep freed memory for the next tensor: by default each large one is mapped and faulted in anew.

    A training step of MobileNetV2 took a quarter less, and the peak stayed as it was.
    """
    libc: Any = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (ARENA_MAX, 1)):
            libc.mallopt(option, value)


def arithmetic(compute: Compute) -> Any:
    """Return the context (torch.autocast) in which a model computes as compute.dtype says."""
    import torch

    return torch.autocast(find(), torch.bfloat16, enabled=compute.dtype == "bfloat16")


def batches(encoded: Encoded, lengths: list[int], collate: Callable[[list[dict[str, Any]]], dict[str, Any]], size: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the places of rows, like with like in length, and their tensors on the device, `size` rows at a time."""
    order = np.argsort(lengths, kind="stable")
    for batch in np.split(order, range(size, len(order), size)):
        yield batch, {name: tensor.to(find()) for name, tensor in collate([encoded[i] for i in batch]).items()}
