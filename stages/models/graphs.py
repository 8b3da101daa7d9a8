"""Trace a model into a graph of ONNX, hold that to the model, and compute it by ONNX Runtime."""

import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.learning import Inputs
from stages.contract.protocols import Finished
from stages.models import device, forms
from stages.params.compute import Compute

FILE = "model.onnx"
CLOSE = 1e-3  # how far a probability, or a share of the greatest number, may be from torch's


def write(finished: Finished, into: Path, rows: int) -> None:
    """Write a model's graph into a new folder, beside its configuration and processor.

    Raises ModelError if torch cannot trace the model, or if ONNX Runtime does not predict as torch
    does on validation rows of several lengths.
    """
    model = forms.trained(finished)
    batches = finished.batches(rows)
    forms.lay_out(finished, into)
    _trace(model.eval(), max(batches, key=_size), into / FILE)
    threads = len(os.sched_getaffinity(0))
    apart = _apart(finished, model, opened(into, threads), batches)
    if not apart <= CLOSE:
        raise ModelError(
            f"export: ONNX Runtime differs from torch by {apart:.2g} on validation rows, and at "
            f"most {CLOSE:g} is rounding; say plain for this base model"
        )


def _size(inputs: Inputs) -> int:
    return next(iter(inputs.values())).numel()


def _trace(model: Any, inputs: Inputs, file: Path) -> None:
    """Write the graph of a model for inputs of these names; rows, and tokens, may be any number."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            return self.model(**dict(zip(inputs, values, strict=True))).logits

    any_number = torch.export.Dim.DYNAMIC
    # one row would be taken for the only number there is
    values = [torch.cat([of, of]) if len(of) == 1 else of for of in inputs.values()]
    moving = tuple({0: any_number} | ({1: any_number} if of.ndim == 2 else {}) for of in values)
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            torch.onnx.export(
                Logits().eval(),
                tuple(values),
                file,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=(moving,),
                dynamo=True,
                external_data=False,
            )
    except Exception as error:
        # Tracing runs the model's own code on stand-ins, which raises any type.
        raise ModelError(
            f"export: torch cannot trace this base model "
            f"({one_line(f'{type(error).__name__}: {error}', 300)}); say plain"
        ) from error


def _apart(
    finished: Finished, model: Any, graph: Callable[..., Any], batches: list[Inputs]
) -> float:
    """Return the greatest difference of a graph's probabilities, or numbers, from a model's."""
    import torch

    apart = 0.0
    with torch.no_grad():
        for inputs in batches:
            ours, theirs = (of(**inputs).logits.float().cpu().numpy() for of in (graph, model))
            if finished.labels:
                ours, theirs = (finished.of_y.probabilities(of) for of in (ours, theirs))
            else:
                scale = max(1.0, float(np.abs(theirs).max()))
                ours, theirs = ours / scale, theirs / scale
            apart = max(apart, float(np.abs(ours - theirs).max()))
    return apart


def opened(folder: Path, threads: int) -> Callable[..., Any]:
    """Return what computes a batch: tensors by name -> outputs with logits, on the same device.

    Arithmetic is the graph's own, on a CPU. Raises ModelError if the folder has no graph.
    """
    import onnxruntime
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(
            folder / FILE, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # Anybody may have written the file: ONNX Runtime has types of its own for what it finds.
        raise ModelError(
            f"{folder / FILE}: ONNX Runtime cannot open it ({one_line(error, 300)}); train or "
            "bring it anew"
        ) from error
    taken = [of.name for of in session.get_inputs()]

    def compute(**inputs: Any) -> Any:
        given = {name: inputs[name].detach().cpu().contiguous().numpy() for name in taken}
        logits: Any = session.run(["logits"], given)[0]
        return SequenceClassifierOutput(logits=torch.from_numpy(logits).to(device.find()))  # pyright: ignore[reportArgumentType]

    return compute


def load(folder: Path, compute: Compute) -> Callable[..., Any]:
    """Return what computes a batch as a task says."""
    return opened(folder, compute.threads)
