"""Registers a cheap baseline as a version of a task's model: where it is enough, it is the better one to run."""

from dataclasses import dataclass
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
from stages.models import cheap, linear, loading, scoring
from stages.models.activations import Base
from stages.params.evaluate import Majority, ProbeLogistic
from stages.params.task import Task
from stages.project import lineage
from stages.registry import candidate

SAME = 0.95  # of the test rows: a head in a saved model is computed in the task's arithmetic, and of pictures in all views


@dataclass(frozen=True)
class Result:
    """The version that holds the baseline now, and its score on the test rows by the metric that decides."""

    model: str
    sha256: str
    baseline: str
    metric: str
    score: float


def adopt(name: str, baseline: str) -> Result:
    """Fit the baseline anew, hold it to what evaluate measured, and register it; the champion stays who it is."""
    task = settings.task(versions.name(name))
    chosen = next((of for of in task.evaluate.baselines if of.name == baseline), None)
    if chosen is None:
        known = ", ".join(of.name for of in task.evaluate.baselines)
        raise ParamsError(
            f"params.yaml: tasks.{name}.evaluate.baselines has no {extract(baseline)}; it has: {known}"
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
        of_y, trained = (
            plugins.problem(task.problem.name),
            receipts.read_json(job.take("finetune", "model.json")),
        )
        card = {key: trained[key] for key in ("task", "modality", "problem", "base")}
        known = baselines.known(parts["train"], parts["validation"])
        if isinstance(chosen, ProbeLogistic):
            _save_probe(chosen, known, task, job, card)
        else:
            cheap.save(baselines.learn_cheap(chosen, known, of_y), job.out, card)
        sha256 = scoring.identity(job.out)
        scored = scoring.predict(job.out, parts["test"], task.compute, sha256).set_index(
            parts["test"]["id"]
        )["predicted"]
        same = _same(scored, predictions[baseline]) if baseline in predictions else 0.0
        if same < (SAME if isinstance(chosen, ProbeLogistic) else 1.0):
            raise ReceiptError(
                f"data/evaluate/{name}: its {baseline} predicts other labels than the one fitted now; run `dvc repro evaluate@{name}`"
            )
        measured = of_y.measure(
            of_y.values(parts["test"]["y"]).tolist(), scored.tolist(), trained["labels"]
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
    """Return the share of rows (same index) of which two models say the same: of numbers, within a twentieth of their spread."""
    if scored.dtype == float:
        return float(((scored - measured).abs() <= (1 - SAME) * measured.std()).mean())
    return float((scored == measured).mean())


def _save_probe(
    chosen: ProbeLogistic, known: pd.DataFrame, task: Task, job: Job, card: dict[str, Any]
) -> None:
    """Write the base model with the head that the baseline fits on it, as finetune writes a model."""
    of_x, of_y = plugins.modality(task.modality.name), plugins.problem(task.problem.name)
    settings_of_x = plugins.settings(card["modality"])
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
    receipts.write_json(
        job.out / "model.json",
        card
        | {
            "labels": probe.labels,
            "base": {"source": task.base, "sha256": base_sha256},
            "sha256": sha256,
        },
    )
