"""Register a cheap baseline as a version of a task's model.

If the baseline is good enough, it is the better one to run.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.commands import versions
from stages.contract import locks, manifest, plugins, receipts, settings
from stages.contract.errors import ModelError, ParamsError, ReceiptError
from stages.contract.escape import extract
from stages.contract.runner import Job
from stages.judging import baselines
from stages.models import cheap, linear, loading, saved, scoring
from stages.models.activations import Base
from stages.models.saved import Saved
from stages.params.evaluate import Majority, ProbeLogistic
from stages.params.task import Task
from stages.project import lineage
from stages.registry import candidate

# Of the test rows: a saved model computes its head in the task's arithmetic and, for pictures, in
# all views.
SAME = 0.95


@dataclass(frozen=True)
class Result:
    """The version of the baseline, and its score on the test rows by the metric that decides."""

    model: str
    sha256: str
    baseline: str
    metric: str
    score: float


def adopt(name: str, baseline: str) -> Result:
    """Fit the baseline anew, compare it with what evaluate measured, and register it.

    The champion stays the same.
    """
    task = settings.task(versions.name(name))
    chosen = next((entry for entry in task.evaluate.baselines if entry.name == baseline), None)
    if chosen is None:
        known = ", ".join(entry.name for entry in task.evaluate.baselines)
        raise ParamsError(
            f"params.yaml: tasks.{name}.evaluate.baselines has no {extract(baseline)}; it has: "
            f"{known}"
        )
    if isinstance(chosen, Majority):
        raise ModelError("majority: has learned nothing that could be registered")
    with locks.Lock(Path("data/.work/register", name)) as work, TemporaryDirectory(dir=work) as out:
        job = Job("adopt", name, Path(out), work)
        parts = {
            part: manifest.read(job.take("split", f"{part}.parquet")) for part in manifest.PARTS
        }
        job.take("evaluate", "report.json")
        predictions = manifest.read_table(job.take("evaluate", "predictions.parquet")).set_index(
            "id"
        )
        of_y = plugins.problem(task.problem.name)
        trained = saved.read(job.take("finetune", "model.json"))
        known = baselines.known(parts["train"], parts["validation"])
        if isinstance(chosen, ProbeLogistic):
            _save_probe(chosen, known, task, job, trained)
        else:
            cheap.save(baselines.learn_cheap(chosen, known, of_y), job.out, trained)
        sha256 = scoring.identity(job.out)
        scored = scoring.predict(job.out, parts["test"], task.compute, sha256).set_index(
            parts["test"]["id"]
        )["predicted"]
        same = _same(scored, predictions[baseline]) if baseline in predictions else 0.0
        if same < (SAME if isinstance(chosen, ProbeLogistic) else 1.0):
            raise ReceiptError(
                f"data/evaluate/{name}: its {baseline} predicts other labels than the one fitted "
                f"now; run `dvc repro evaluate@{name}`"
            )
        measured = of_y.measure(
            of_y.values(parts["test"]["y"]).tolist(), scored.tolist(), trained.labels
        )
        metrics, origin = (
            {name: measured[name] for name in of_y.HEADLINES} | {"rows": len(scored)},
            lineage.read(name, task.data.source, task.base),
        )
        version = candidate.record(
            candidate.gather(
                job, job.out, sha256, (task.data.source, task.base), parts, origin, metrics
            )
        )
    metric = plugins.deciding(of_y, task.evaluate.metric)
    return Result(
        f"{version.name}@{version.number}",
        sha256,
        baseline,
        of_y.METRICS[metric].title,
        measured[metric],
    )


def _same(scored: "pd.Series[Any]", measured: "pd.Series[Any]") -> float:
    """Return the share of rows (same index) for which two models say the same.

    Numbers are the same if they are within a twentieth of their spread.
    """
    if scored.dtype == float:
        return float(((scored - measured).abs() <= (1 - SAME) * measured.std()).mean())
    return float((scored == measured).mean())


def _save_probe(
    chosen: ProbeLogistic, known: pd.DataFrame, task: Task, job: Job, trained: Saved
) -> None:
    """Write the base model with the head that the baseline fits on it, as finetune does."""
    of_x, of_y = plugins.modality(task.modality.name), plugins.problem(task.problem.name)
    settings_of_x = plugins.settings(trained.modality)
    folder, base_sha256 = job.raw(task.base)
    probe = baselines.learn_probe(
        chosen, known, Base(folder, of_x, of_y, settings_of_x, task.compute)
    )
    model, new = loading.load(of_y, folder, task.modality.name, probe.labels, new_head=True)
    probe.head.put_into(linear.head(model, new))
    loading.plain(model).save_pretrained(job.out / "model")
    of_x.encoding.stated(of_x.encoding.processor(folder), settings_of_x).save_pretrained(
        job.out / "model"
    )
    sha256 = receipts.digest(receipts.files(job.out, ["model"]))
    base = saved.Base(task.base, base_sha256)
    described = replace(trained, labels=probe.labels, base=base, sha256=sha256)
    described.write(job.out / "model.json")
