"""Registers a cheap baseline as a version of a task's model: where it is enough, it is the better one to run."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stages import candidate, lineage, registry
from stages.commands import versions
from stages.contract import locks, manifest, plugins, receipts, settings
from stages.contract.errors import ModelError, ParamsError, ReceiptError
from stages.contract.escape import extract
from stages.contract.params import Majority, ProbeLogistic
from stages.contract.runner import Job
from stages.judging import baselines, cheap, scoring


@dataclass(frozen=True)
class Result:
    """The version that holds the baseline now, and its macro-F1 on the test rows."""

    model: str
    sha256: str
    baseline: str
    macro_f1: float


def adopt(name: str, baseline: str) -> Result:
    """Fit the baseline anew, hold it to what evaluate measured, and register it; the champion stays who it is."""
    task = settings.task(versions.name(name))
    chosen = next((of for of in task.evaluate.baselines if of.name == baseline), None)
    if chosen is None:
        known = ", ".join(of.name for of in task.evaluate.baselines)
        raise ParamsError(f"params.yaml: tasks.{name}.evaluate.baselines has no {extract(baseline)}; it has: {known}")
    if isinstance(chosen, Majority):
        raise ModelError("majority: has learned nothing that could be registered")
    if isinstance(chosen, ProbeLogistic):
        raise ModelError(
            f"probe_logistic: is a head on the base model; set tasks.{name}.finetune.tune to {{name: linear_probe}} and run `dvc repro register@{name}`"
        )
    with locks.Lock(Path("data/.work/register", name)) as work, TemporaryDirectory(dir=work) as out:
        job = Job("adopt", name, Path(out), work)
        parts = {part: manifest.read(job.take("split", f"{part}.parquet")) for part in manifest.PARTS}
        report = receipts.read_json(job.take("evaluate", "report.json"))
        predictions = manifest.read_table(job.take("evaluate", "predictions.parquet")).set_index("id")
        of_y, trained = plugins.problem(task.problem.name), receipts.read_json(job.take("finetune", "model.json"))
        known = baselines.known(parts["train"], parts["validation"])
        fitted = cheap.fit(chosen, cheap.features(chosen, known["x"]), of_y.strata(known["y"]))
        cheap.save(fitted, job.out, {key: trained[key] for key in ("task", "modality", "problem", "base")})
        sha256 = scoring.identity(job.out)
        scored = scoring.predict(job.out, parts["test"], task.compute, sha256).set_index(parts["test"]["id"])["predicted"]
        if baseline not in predictions or not scored.equals(predictions[baseline].rename("predicted")):
            raise ReceiptError(f"data/evaluate/{name}: its {baseline} predicts other labels than the one fitted now; run `dvc repro evaluate@{name}`")
        measured, origin = report["models"][baseline], lineage.read(name, task.data.source, task.base)
        metrics = {**of_y.headlines(measured), "rows": len(scored)}
        version = registry.record(candidate.gather(job, job.out, sha256, (task.data.source, task.base), parts, origin, metrics))
    return Result(f"{version.name}@{version.number}", sha256, baseline, measured["macro_f1"])
