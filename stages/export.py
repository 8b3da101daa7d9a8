"""Writes the trained model in the form in which it is judged, registered and served."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ModelError
from stages.contract.learning import Inputs, take
from stages.contract.protocols import Finished
from stages.contract.runner import Job
from stages.models import adapters, device, saved
from stages.models.saved import Saved
from stages.params.compute import Compute
from stages.params.export import Export

BATCH = 16  # rows that go through a model together, beside the shortest and the longest alone


def export(job: Job, export: Export, compute: Compute) -> str:
    """Write the model in this form, and its model.json; nothing is trained."""
    folder = job.take("finetune", "model")
    trained = saved.read(job.take("finetune", "model.json"))
    validation = manifest.read(job.take("split", "validation.parquet"))
    if adapters.is_in(folder) and export.name != "plain":
        raise ModelError(
            f"tasks.{job.key}.export: made-up tokens are merged into no weights, so the model has "
            f"no form {export.name}; say plain, or tune it in another way"
        )
    device.set_up(compute)
    form, of_y = plugins.export(export.name), plugins.problem(trained.problem)
    batches = _batches(folder, trained, validation)
    finished = Finished(folder, of_y, trained.modality["name"], trained.labels, batches)
    form.write(finished, job.hand_on("model"), export)

    written = receipts.files(job.out, ["model"])
    exported = replace(trained, form=export.name, sha256=receipts.digest(written))
    exported.write(job.hand_on("model.json"))
    size = sum((job.out / name).stat().st_size for name in written)
    return f"{export.name}, {size / 1e6:,.1f} MB"


def _batches(
    folder: Path, trained: Saved, validation: pd.DataFrame
) -> Callable[[int], list[Inputs]]:
    """Return what encodes some validation rows, if they are asked for."""

    def encoded(rows: int) -> list[Inputs]:
        of_x = plugins.modality(trained.modality["name"])
        samples = validation.sample(min(rows, len(validation)), random_state=0)
        processor, settings = of_x.encoding.processor(folder), plugins.settings(trained.modality)
        inputs = of_x.encoding.encode(samples, processor, settings)
        order = np.argsort(of_x.encoding.lengths(inputs))
        collate = of_x.encoding.collate(processor)
        mixed = np.array_split(np.arange(len(order)), -(-len(order) // BATCH))
        return [dict(collate(take(inputs, [*of]))) for of in (order[:1], order[-1:], *mixed)]

    return encoded


if __name__ == "__main__":
    runner.run(export)
