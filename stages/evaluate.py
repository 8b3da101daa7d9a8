"""Evaluates the candidate and the cheap baselines on the same test rows."""

import csv

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.escape import cell
from stages.contract.params import Classification, Compute, Evaluate
from stages.contract.runner import Job
from stages.judging import baselines, plots, scoring


def evaluate(job: Job, problem: Classification, compute: Compute, evaluate: Evaluate) -> str:
    """Write metrics.json, the full report, every prediction, and the confusion matrix as data and as a picture."""
    of_y = plugins.problem(problem.name)
    train, validation, test = (manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS)
    model_json, _ = job.take("finetune", "model.json"), job.take("finetune", "model")
    labels = receipts.read_json(model_json)["labels"]
    y = of_y.strata(test["y"])

    scored = scoring.predict(model_json.parent, test, compute)
    predictions = pd.DataFrame({"id": test["id"], "y": y, "candidate": scored["predicted"], "confidence": scored["confidence"]})
    known = pd.concat([train[train["id"] == train["source_id"]], validation])  # a baseline tunes nothing on validation
    for baseline in evaluate.baselines:
        predictions[baseline.name] = baselines.predict(baseline, known, of_y.strata(known["y"]), test)

    names = ["candidate", *(b.name for b in evaluate.baselines)]
    report = {name: of_y.measure(y.tolist(), predictions[name].tolist(), labels) for name in names}
    cheap = {b.name: dict(list(of_y.headlines(report[b.name]).items())[:1]) for b in evaluate.baselines}
    receipts.write_json(job.hand_on("metrics.json"), {**of_y.headlines(report["candidate"]), "baselines": cheap, "rows": len(test)})
    receipts.write_json(job.hand_on("report.json"), report)
    manifest.write_table(predictions, job.hand_on("predictions.parquet"), manifest.predictions_schema(names))
    _write_confusion(predictions, job)
    plots.confusion(y, predictions["candidate"], labels, job.hand_on("confusion.png"))
    macro = {name: of["macro_f1"] for name, of in report.items()}
    return f"{len(test):,} test rows, macro-F1 " + ", ".join(f"{name} {value:.4f}" for name, value in macro.items())


def _write_confusion(predictions: pd.DataFrame, job: Job) -> None:
    """Write a row a prediction, as DVC's confusion template wants it."""
    with job.hand_on("confusion.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows((cell(a), cell(b)) for a, b in zip(predictions["y"], predictions["candidate"], strict=True))


if __name__ == "__main__":
    runner.run(evaluate)
