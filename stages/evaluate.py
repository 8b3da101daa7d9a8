"""Evaluates the candidate and the cheap baselines on the same test rows."""

import csv
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ParamsError
from stages.contract.escape import cell
from stages.contract.metrics import Tally
from stages.contract.params import Classification, Compute, Evaluate
from stages.contract.runner import Job
from stages.domain import survey
from stages.judging import baselines, calibration, cost, evidence, robustness, slices
from stages.models import scoring
from stages.models.activations import Base
from stages.report import mistakes, page, plots

CONFIDENCE = 0.95  # of the intervals that are shown
ALPHA = 1 - CONFIDENCE


def evaluate(job: Job, problem: Classification, base: str, compute: Compute, evaluate: Evaluate) -> str:
    """Write metrics.json, the full report as JSON and as a page, every prediction, and the confusion matrix as data and as a picture."""
    meter = cost.Meter() if evaluate.cost_rows else None
    of_y = plugins.problem(problem.name)
    train, validation, test = (manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS)
    scorer = scoring.load(folder := job.take("finetune", "model").parent, compute)
    history, kept = receipts.read_json(job.take("finetune", "history.json")), receipts.read_json(job.take("finetune", "metrics.json"))["best_epoch"]
    issues = receipts.read_json(job.unsigned("split", "label_issues.json"))
    job.take("finetune", "model.json")
    of_x, labels, (pretrained, _) = plugins.modality(scorer.card["modality"]["name"]), scorer.card["labels"], job.raw(base)
    if faults := of_x.altering.faults(evaluate.robustness.transforms):
        raise ParamsError(f"params.yaml: tasks.{job.key}.evaluate.robustness.{'; '.join(faults)}")
    y = of_y.strata(test["y"])

    logits = scoring.score(scorer, test)
    predictions = scorer.decode(logits, test).rename(columns={"predicted": "candidate"}).assign(id=test["id"], y=y)
    known = baselines.known(train, validation)
    frozen = Base(pretrained, of_x, of_y, scorer.settings, compute)
    cheap = {of.name: baselines.score(of, known, of_y.strata(known["y"]), test, frozen) for of in evaluate.baselines}
    predictions = predictions.assign(**{name: of.predicted for name, of in cheap.items()})
    metric = of_y.METRICS[decides := plugins.deciding(of_y, evaluate.metric)]
    tallies = {name: {key: of.tally(y, predictions[name], labels) for key, of in of_y.METRICS.items()} for name in ("candidate", *cheap)}
    models: dict[str, dict[str, Any]] = {
        name: of_y.measure(y.tolist(), predictions[name].tolist(), labels) | {"intervals": _intervals(of_y, of)} for name, of in tallies.items()
    }

    right, temperature = y == predictions["candidate"], calibration.temperature(scoring.score(scorer, validation), of_y.targets(validation["y"], labels))
    profile = receipts.read_json(job.unsigned("validate", "domain.json"))["profile"]
    features = of_x.reading.look(test["x"], scorer.settings).select_dtypes("number")
    features["domain distance"] = survey.distances_of_rows(profile, test, frozen, evaluate.slices.distance_rows)
    sliced = slices.columns(features, test["meta"], evaluate.slices)
    found: dict[str, Any] = {
        "metric": {"name": decides, "title": metric.title, "part": metric.part},
        "metric_of_slices": of_y.OF_SLICES,
        "models": models,
        "beside": {name: asdict(evidence.compare(tallies["candidate"][decides], tallies[name][decides], metric, margin=0, level=ALPHA / 2)) for name in cheap},
        "calibration": {of: calibration.examine(logits, right, t, evaluate.bins, ALPHA) for of, t in (("as_it_is", 1.0), ("scaled", temperature))},
        "slices": slices.measure(sliced, y, predictions["candidate"], metric, of_y.METRICS[of_y.OF_SLICES], evaluate.slices, CONFIDENCE),
        "robustness": robustness.measure(scorer, test, y, metric, evaluate.robustness, ALPHA),
    }
    job.cost["models"] = {name: {"milliseconds_a_row": of.milliseconds, "megabytes": of.megabytes} for name, of in cheap.items()}
    if meter:
        job.cost["models"]["candidate"] = asdict(meter.measure(folder, test.head(evaluate.cost_rows or 0), compute))

    headlines = {name: {headline: of[headline] for headline in of_y.HEADLINES} for name, of in models.items()}
    receipts.write_json(job.hand_on("metrics.json"), {
        **headlines["candidate"],
        "baselines": {name: {decides: headlines[name][decides]} for name in cheap},
        "calibration_error": found["calibration"]["as_it_is"]["error"],
        "rows": len(test),
    })  # fmt: skip
    receipts.write_json(job.hand_on("report.json"), found)
    manifest.write_table(predictions, job.hand_on("predictions.parquet"), manifest.predictions_schema(["candidate", *cheap]))
    _write_confusion(predictions, job)
    plots.confusion(y, predictions["candidate"], labels, job.hand_on("confusion.png"))
    page.write(job.out / "report.html", page.Findings(
        task=job.key,
        facts={"test rows": len(test), "labels": len(labels), "train rows": len(train), "validation rows": len(validation)},
        titles=of_y.HEADLINES,
        headlines=headlines,
        confidence=CONFIDENCE,
        found=found,
        cost=job.cost["models"],
        taken_for=page.taken_for(y, predictions["candidate"]),
        confusion=(job.out / "confusion.png").read_bytes(),
        curves=plots.learning_curves(history, decides, metric.title, kept),
        reliability=plots.reliability(found["calibration"]),
        mistakes=mistakes.collect(scorer, test, predictions),
        wrong=int((~right).sum()),
        doubts=mistakes.doubts(scorer, issues["issues"]),
        doubted=len(issues["issues"]),
        judged=issues["judged"],
        agreed=issues["accuracy"],
        judge_fits=issues["fit"],
    ))  # fmt: skip
    return f"{len(test):,} test rows, {metric.title} " + ", ".join(f"{name} {of[decides]:.4f}" for name, of in models.items())


def _intervals(of_y: plugins.Problem, tallies: dict[str, Tally]) -> dict[str, Any]:
    """Return the intervals of a model's scores, and of the parts of the problem's first metric: what its table of labels shows."""
    found = {name: evidence.intervals(tallies[name], of, alpha=ALPHA) for name, of in of_y.METRICS.items()}
    parts = asdict(found[plugins.deciding(of_y, None)])["parts"]
    return {"confidence": CONFIDENCE, **{name: asdict(of.score) for name, of in found.items()}, "parts": parts}


def _write_confusion(predictions: pd.DataFrame, job: Job) -> None:
    """Write a row a prediction, as DVC's confusion template wants it."""
    with job.hand_on("confusion.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows((cell(a), cell(b)) for a, b in zip(predictions["y"], predictions["candidate"], strict=True))


if __name__ == "__main__":
    runner.run(evaluate)
