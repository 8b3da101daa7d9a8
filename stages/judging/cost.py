"""Measures what a model costs in use: in a process of its own, a row at a time and in batches."""

import gc
import sys
import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from stages.contract import runner, stopping
from stages.models import device, scoring
from stages.params.compute import Compute

WARM = 5  # rows that are scored before any is timed


@dataclass(frozen=True)
class Cost:
    """What scoring with a model takes on this machine."""

    rows: int
    """that were timed"""
    latency_p50_ms: float
    """of one row alone"""
    latency_p95_ms: float
    rows_per_second: float
    """in batches of compute.batch_size"""
    peak_memory_mib: float
    """of the process, libraries and model in it"""
    peak_device_memory_mib: float
    """of the GPU; 0 without one"""
    megabytes: float
    """of the model's files (1,000,000 bytes)"""


class Meter:
    """A process of its own in which a model is measured.

    It is forked when the meter is made, so that it imports nothing a second time. Make it before
    torch computes or a data set is read: threads that these start do not outlive a fork. (Only on
    Linux; elsewhere the process starts anew.)
    """

    def __init__(self) -> None:
        scoring.import_libraries()  # before the fork
        self.process = ProcessPoolExecutor(
            1, get_context("fork" if sys.platform == "linux" else "spawn"), stopping.end_with_parent
        )
        self.process.submit(gc.freeze).result()
        # If nothing is measured: an executor left alone may end beside the interpreter and fail.
        weakref.finalize(self, self.process.shutdown)

    def measure(self, folder: Path, samples: pd.DataFrame, compute: Compute) -> Cost:
        """Score samples, each alone and then all in batches, and end the process."""
        with self.process:
            return self.process.submit(_measure, folder, samples, compute).result()


def _measure(folder: Path, samples: pd.DataFrame, compute: Compute) -> Cost:
    import torch

    scorer = scoring.load(folder, compute)
    seconds = list[float]()
    for i in [*range(min(WARM, len(samples))), *range(len(samples))]:
        began = time.perf_counter()
        scoring.score(scorer, samples.iloc[[i]])
        seconds.append(time.perf_counter() - began)
    alone = 1000 * np.array(seconds[-len(samples) :])
    began = time.perf_counter()
    scoring.score(scorer, samples)
    took = time.perf_counter() - began
    return Cost(
        rows=len(samples),
        latency_p50_ms=float(np.quantile(alone, 0.5)),
        latency_p95_ms=float(np.quantile(alone, 0.95)),
        rows_per_second=len(samples) / took,
        peak_memory_mib=runner.peak_memory_mib(),
        peak_device_memory_mib=torch.cuda.max_memory_allocated() / 2**20
        if device.find() == "cuda"
        else 0.0,
        megabytes=sum(
            path.stat().st_size for path in (folder / "model").rglob("*") if path.is_file()
        )
        / 1e6,
    )
