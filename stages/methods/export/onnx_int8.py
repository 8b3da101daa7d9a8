"""Leave the model as a graph of ONNX whose matrices are whole numbers of 8 bits.

The graph is first held to the trained model in float32; what rounding costs is for the gates to
judge.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from stages.contract.problem import Problem
from stages.contract.protocols import Finished
from stages.models import graphs
from stages.params.compute import Compute
from stages.params.export import OnnxInt8

# Layers that static scales are for: normalisations and sums between them stay as they are.
STATIC = ["Conv", "Gemm", "MatMul"]

GRADIENTS = False


def write(finished: Finished, into: Path, settings: OnnxInt8) -> None:
    """Write model.onnx in 8 bits, and what encodes its inputs."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graphs.write(finished, into, settings.rows)
    file, whole = into / graphs.FILE, into / "whole.onnx"
    logging.getLogger().setLevel(logging.ERROR)  # it warns of each layer that it leaves alone
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        quant_pre_process(file, whole, skip_symbolic_shape=True)
        if settings.scales == "dynamic":
            quantize_dynamic(whole, file, per_channel=True, weight_type=QuantType.QInt8)
        else:
            batches = iter(finished.batches(settings.rows))

            class Rows(CalibrationDataReader):
                def get_next(self) -> Any:
                    batch = next(batches, None)
                    return batch and {name: of.numpy() for name, of in batch.items()}

            quantize_static(
                whole,
                file,
                Rows(),
                per_channel=True,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=STATIC,
            )
    whole.unlink()


def load(
    of_y: Problem,  # noqa: ARG001
    folder: Path,
    modality: str,  # noqa: ARG001
    labels: list[str],  # noqa: ARG001
    compute: Compute,
) -> Any:
    """Return the graph on the CPU; what is no matrix it computes in float32."""
    return graphs.load(folder, compute)
