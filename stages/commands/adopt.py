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
from stages.params.evaluate import Linear, Majority, ProbeLogistic
from stages.params.task import Task
from stages.project import lineage
from stages.registry import candidate, recording

Learned = Linear | ProbeLogistic
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
    chosen = _chosen(name, task, baseline)
    with locks.Lock(Path("data/.work/register", name)) as work, TemporaryDirectory(dir=work) as out:
        job = Job("adopt", name, Path(out), work)
        parts = {
            part: manifest.read(job.take("split", f"{part}.parquet")) for part in manifest.PARTS
        }
        job.take("evaluate", "report.json")
        predictions = manifest.read_table(job.take("evaluate", "predictions.parquet"))
        trained = saved.read(job.take("export", "model.json"))
        _save(chosen, parts, task, job, trained)
        sha256 = scoring.identity(job.out)
        test = parts["test"]
        scored = scoring.predict(job.out, test, task.compute, sha256)
        scored = scored.set_index(test["id"])["predicted"]
        _require_same(name, chosen, scored, predictions.set_index("id"))
        of_y = plugins.problem(task.problem.name)
        y = of_y.values(test["y"]).tolist()
        measured = of_y.measure(y, scored.tolist(), trained.labels)
        metrics = {name: measured[name] for name in of_y.HEADLINES} | {"rows": len(scored)}
        sources = (task.data.source, task.base)
        origin = lineage.read(name, *sources)
        version = recording.record(
            candidate.gather(job, job.out, sha256, sources, parts, origin, metrics)
        )
    metric = plugins.deciding(of_y, task.evaluate.metric)
    title = of_y.METRICS[metric].title
    return Result(f"{version.name}@{version.number}", sha256, baseline, title, measured[metric])


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    task, _, number = found.model.partition("@")
    return [
        f"{found.model}: {found.baseline}, {found.metric} {found.score:.4f} on the test rows; "
        f"`refit promote {task} {number} --why TEXT` makes it champion"
    ]


def _chosen(name: str, task: Task, baseline: str) -> Learned:
    """Return the baseline of a task that was named, which must have learned something."""
    chosen = next((entry for entry in task.evaluate.baselines if entry.name == baseline), None)
    if chosen is None:
        known = ", ".join(entry.name for entry in task.evaluate.baselines)
        raise ParamsError(
            f"params.yaml: tasks.{name}.evaluate.baselines has no {extract(baseline)}; it has: "
            f"{known}"
        )
    if isinstance(chosen, Majority):
        raise ModelError("majority: has learned nothing that could be registered")
    return chosen


def _require_same(
    name: str, chosen: Learned, scored: "pd.Series[Any]", predictions: pd.DataFrame
) -> None:
    """Raise ReceiptError if evaluate's baseline is not the one that was fitted now."""
    baseline = chosen.name
    same = _same(scored, predictions[baseline]) if baseline in predictions else 0.0
    if same < (SAME if isinstance(chosen, ProbeLogistic) else 1.0):
        raise ReceiptError(
            f"data/evaluate/{name}: its {baseline} predicts other labels than the one fitted "
            f"now; run `dvc repro evaluate@{name}`"
        )


def _same(scored: "pd.Series[Any]", measured: "pd.Series[Any]") -> float:
    """Return the share of rows (same index) for which two models say the same.

    Numbers are the same if they are within a twentieth of their spread.
    """
    if scored.dtype == float:
        return float(((scored - measured).abs() <= (1 - SAME) * measured.std()).mean())
    return float((scored == measured).mean())


def _save(
    chosen: Learned, parts: dict[str, pd.DataFrame], task: Task, job: Job, trained: Saved
) -> None:
    """Fit the baseline on all rows but those of test, and write it as a model."""
    known = baselines.known(parts["train"], parts["validation"])
    if isinstance(chosen, ProbeLogistic):
        return _save_probe(chosen, known, task, job, trained)
    of_y = plugins.problem(task.problem.name)
    return cheap.save(baselines.learn_cheap(chosen, known, of_y), job.out, trained)


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
    loading.save(model, job.out / "model")
    of_x.encoding.stated(of_x.encoding.processor(folder), settings_of_x).save_pretrained(
        job.out / "model"
    )
    sha256 = receipts.digest(receipts.files(job.out, ["model"]))
    base = saved.Base(task.base, base_sha256)
    described = replace(trained, labels=probe.labels, base=base, sha256=sha256)
    described.write(job.out / "model.json")
