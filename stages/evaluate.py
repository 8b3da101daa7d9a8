"""Evaluates the candidate and the cheap baselines on the same test rows."""

import csv
from dataclasses import asdict

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.escape import cell
from stages.contract.params import Classification, Compute, Evaluate
from stages.contract.runner import Job
from stages.judging import baselines, mistakes, plots, report, scoring, statistics

CONFIDENCE = 0.95  # of the intervals that are shown


def evaluate(job: Job, problem: Classification, compute: Compute, evaluate: Evaluate) -> str:
    """Write metrics.json, the full report as JSON and as a page, every prediction, and the confusion matrix as data and as a picture."""
    of_y = plugins.problem(problem.name)
    train, validation, test = (manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS)
    model_json, _ = job.take("finetune", "model.json"), job.take("finetune", "model")
    history, kept = receipts.read_json(job.take("finetune", "history.json")), receipts.read_json(job.take("finetune", "metrics.json"))["best_epoch"]
    labels, found = receipts.read_json(model_json)["labels"], receipts.read_json(job.unsigned("split", "label_issues.json"))
    y = of_y.strata(test["y"])

    scored = scoring.predict(model_json.parent, test, compute)
    predictions = pd.DataFrame({"id": test["id"], "y": y, "candidate": scored["predicted"], "confidence": scored["confidence"]})
    known = pd.concat([train[train["id"] == train["source_id"]], validation])  # a baseline tunes nothing on validation
    for baseline in evaluate.baselines:
        predictions[baseline.name] = baselines.predict(baseline, known, of_y.strata(known["y"]), test)

    names = ["candidate", *(b.name for b in evaluate.baselines)]
    measured = {name: of_y.measure(y.tolist(), predictions[name].tolist(), labels) for name in names}
    headlines = {name: of_y.headlines(of) for name, of in measured.items()}
    cheap = {b.name: dict(list(headlines[b.name].items())[:1]) for b in evaluate.baselines}
    receipts.write_json(job.hand_on("metrics.json"), {**headlines["candidate"], "baselines": cheap, "rows": len(test)})
    intervals = statistics.intervals(y, predictions["candidate"], labels, alpha=1 - CONFIDENCE)
    measured["candidate"]["intervals"] = {"confidence": CONFIDENCE, **asdict(intervals)}
    receipts.write_json(job.hand_on("report.json"), measured)
    manifest.write_table(predictions, job.hand_on("predictions.parquet"), manifest.predictions_schema(names))
    _write_confusion(predictions, job)
    plots.confusion(y, predictions["candidate"], labels, job.hand_on("confusion.png"))
    report.write(job.hand_on("report.html"), report.Findings(
        task=job.key,
        facts={"test rows": len(test), "labels": len(labels), "train rows": len(train), "validation rows": len(validation)},
        headlines=headlines,
        labels=measured["candidate"]["labels"],
        intervals=intervals,
        confidence=CONFIDENCE,
        taken_for=report.taken_for(y, predictions["candidate"]),
        confusion=(job.out / "confusion.png").read_bytes(),
        curves=plots.learning_curves(history, next(iter(headlines["candidate"])), kept),
        mistakes=mistakes.collect(model_json.parent, test, predictions),
        wrong=int((predictions["candidate"] != y).sum()),
        doubts=mistakes.doubts(model_json.parent, found["issues"]),
        doubted=len(found["issues"]),
        judged=found["judged"],
        agreed=found["accuracy"],
    ))  # fmt: skip
    macro = {name: of["macro_f1"] for name, of in measured.items()}
    return f"{len(test):,} test rows, macro-F1 " + ", ".join(f"{name} {value:.4f}" for name, value in macro.items())


def _write_confusion(predictions: pd.DataFrame, job: Job) -> None:
    """Write a row a prediction, as DVC's confusion template wants it."""
    with job.hand_on("confusion.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows((cell(a), cell(b)) for a, b in zip(predictions["y"], predictions["candidate"], strict=True))


if __name__ == "__main__":
    runner.run(evaluate)
