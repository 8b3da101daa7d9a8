"""Set torch up for the work of a stage.

That is its threads, equal results for equal seeds, and the device that torch finds.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.contract.learning import Encoded, Inputs, read, take
from stages.params.compute import Compute

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def find() -> str:
    """Return the device that does the work: cuda if torch finds one, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def set_up(compute: Compute) -> str:
    """Set threads and determinism, and return the device.

    Warns if the processor would have to imitate bfloat16.
    """
    import torch

    _keep_memory()
    torch.set_num_threads(compute.threads)
    # use_deterministic_algorithms would import the compiler too, 1.7 s.
    torch.set_deterministic_debug_mode("warn")
    _warn_if_slow(compute)
    return find()


def _warn_if_slow(compute: Compute) -> None:
    import torch

    if compute.threads > (cores := len(os.sched_getaffinity(0))):
        _warn(
            f"compute.threads: {compute.threads} threads on {cores} core(s) take longer than "
            f"{cores}; the weights belong to the number, whatever the cores"
        )
    if compute.dtype == "bfloat16" and not has_bfloat16():
        _warn(
            f"compute.dtype: this processor ({torch.backends.cpu.get_cpu_capability()}) has no "
            "bfloat16 and takes ten times as long for it; say auto"
        )


def _warn(line: str) -> None:
    print(f"refit: {line}", file=sys.stderr, flush=True)


def has_bfloat16() -> bool:
    """Tell whether the device itself computes in bfloat16.

    A CPU shows it by its flags (AVX512_BF16, AMX_BF16), a GPU by its architecture.
    """
    import torch

    if find() == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities()
    return any(flags.get(flag, False) for flag in ("avx512_bf16", "amx_bf16"))


def dtype(compute: Compute) -> str:
    """Return the name of the arithmetic, float32 or bfloat16.

    What the machine is decides `auto`, never a clock.
    """
    if compute.dtype == "auto":
        return "bfloat16" if has_bfloat16() else "float32"
    return compute.dtype


def free_memory() -> int:
    """Return the bytes of memory that the work may still take.

    The memory is the GPU's, or that of the machine and of the container that this process is in.
    """
    import psutil
    import torch

    if find() == "cuda":
        return torch.cuda.mem_get_info()[0]
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    try:
        most, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:  # no control group of version 2 limits the process
        return free
    return free if most == "max" else min(free, int(most) - int(used))


def described(compute: Compute) -> dict[str, str]:
    """Return the device and the arithmetic, for the record.

    The result of a training depends on them besides data and settings.
    """
    import torch

    on = f"cpu, {compute.threads} threads" if find() == "cpu" else torch.cuda.get_device_name()
    return {"device": on, "dtype": dtype(compute)}


def _keep_memory() -> None:
    """Let glibc keep freed memory for the next tensor.

    By default it maps each large tensor, and faults it in, anew. Without that a training step of
    MobileNetV2 took a quarter less, and the peak stayed the same.
    """
    libc: Any = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (ARENA_MAX, 1)):
            libc.mallopt(option, value)


def arithmetic(compute: Compute) -> Any:
    """Return the context (torch.autocast) in which a model computes as compute.dtype says."""
    import torch

    return torch.autocast(find(), torch.bfloat16, enabled=dtype(compute) == "bfloat16")


def avoid_slow_kernels(model: Any, compute: Compute) -> None:
    """Let a CPU compute in float32 what it computes slowly in bfloat16; the weights stay unchanged.

    oneDNN, as torch 2.13 brings it, has no fast kernel for the gradient that a depthwise
    convolution of stride 2 passes down: it takes 28 ms, and float32 takes .14 (32 rows, 576
    channels, 8 x 8 pixels). A step of the whole MobileNetV2 took 278 ms, and now takes 178.
    """
    import torch

    if find() != "cpu" or dtype(compute) != "bfloat16":
        return
    for layer in model.modules():
        if (
            isinstance(layer, torch.nn.Conv2d)
            and layer.groups == layer.in_channels > 1
            and max(layer.stride) > 1
        ):
            layer.forward = partial(_in_float32, layer.forward)  # pyright: ignore[reportAttributeAccessIssue]


def _in_float32(forward: Callable[[Any], Any], pixels: Any) -> Any:
    import torch

    if not pixels.requires_grad:  # a frozen layer passes no gradient down
        return forward(pixels)
    with torch.autocast("cpu", enabled=False):
        return forward(pixels.float()).to(pixels.dtype)


def batches(
    encoded: Encoded,
    lengths: list[int],
    collate: Callable[[list[Inputs]], Inputs],
    size: int,
) -> Iterator[tuple[Any, Inputs]]:
    """Yield the places of rows, like with like in length, and their tensors on the device.

    A batch has `size` rows if they are as long as the longest of all, and more if they are shorter:
    as many tokens.
    """
    # The longest first: the first batch shows how much memory the work takes.
    order = np.argsort(lengths, kind="stable")[::-1]
    budget, start = size * max(lengths, default=0), 0
    while start < len(order):
        batch = order[start : start + budget // max(lengths[order[start]], 1)]
        inputs = collate(take(encoded, batch.tolist()))
        yield batch, {name: tensor.to(find()) for name, tensor in read(inputs).items()}
        start += len(batch)
