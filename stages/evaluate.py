"""Evaluates the candidate and the cheap baselines on the same test rows."""

import csv
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ParamsError
from stages.contract.escape import cell
from stages.contract.metrics import Metric, Tally
from stages.contract.runner import Job
from stages.domain import survey
from stages.judging import baselines, calibration, cost, evidence, robustness, slices
from stages.models import linear, scoring
from stages.models.activations import Base
from stages.models.scoring import Scorer
from stages.params.compute import Compute
from stages.params.evaluate import Evaluate
from stages.params.problems import Problem
from stages.report import mistakes, page, plots

CONFIDENCE = 0.95  # of the intervals that are shown
ALPHA = 1 - CONFIDENCE


def evaluate(job: Job, problem: Problem, base: str, compute: Compute, evaluate: Evaluate) -> str:
    """Write metrics.json, the full report as JSON and as a page, every prediction, and the confusion matrix as data and as a picture."""
    meter = cost.Meter() if evaluate.cost_rows else None
    of_y = plugins.problem(problem.name)
    train, validation, test = (
        manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS
    )
    scorer = scoring.load(folder := job.take("finetune", "model").parent, compute)
    history, kept = (
        receipts.read_json(job.take("finetune", "history.json")),
        receipts.read_json(job.take("finetune", "metrics.json"))["best_epoch"],
    )
    issues = receipts.read_json(job.unsigned("split", "label_issues.json"))
    job.take("finetune", "model.json")
    of_x, labels, (pretrained, _) = (
        plugins.modality(scorer.card["modality"]["name"]),
        scorer.card["labels"],
        job.raw(base),
    )
    if faults := of_x.altering.faults(evaluate.robustness.transforms):
        raise ParamsError(f"params.yaml: tasks.{job.key}.evaluate.robustness.{'; '.join(faults)}")
    y = of_y.values(test["y"])

    outputs = scoring.score(scorer, test)
    predictions = (
        scorer.decode(outputs, test)
        .rename(columns={"predicted": "candidate"})
        .assign(id=test["id"], y=y)
    )
    known = baselines.known(train, validation)
    frozen = Base(pretrained, of_x, of_y, scorer.settings, compute)
    cheap = {of.name: baselines.score(of, known, test, frozen) for of in evaluate.baselines}
    predictions = predictions.assign(**{name: of.predicted for name, of in cheap.items()})
    metric = of_y.METRICS[decides := plugins.deciding(of_y, evaluate.metric)]
    tallies = {
        name: {key: of.tally(y, predictions[name], labels) for key, of in of_y.METRICS.items()}
        for name in ("candidate", *cheap)
    }
    models: dict[str, dict[str, Any]] = {
        name: of_y.measure(y.tolist(), predictions[name].tolist(), labels)
        | {"intervals": _intervals(of_y, of)}
        for name, of in tallies.items()
    }

    right = tallies["candidate"][of_y.OF_SLICES].right
    severity = _severity(
        tallies["candidate"][of_y.OF_SLICES],
        of_y.METRICS[of_y.OF_SLICES],
        predictions["confidence"],
    )
    profile = receipts.read_json(job.unsigned("validate", "domain.json"))["profile"]
    features = of_x.reading.look(test["x"], scorer.settings).select_dtypes("number")
    features["domain distance"] = survey.distances_of_rows(
        profile, test, frozen, evaluate.slices.distance_rows
    )
    sliced = slices.columns(features, test["meta"], evaluate.slices)
    found: dict[str, Any] = {
        "metric": {"name": decides, "title": metric.title, "part": metric.part},
        "metric_of_slices": of_y.OF_SLICES,
        "models": models,
        "beside": {
            name: asdict(
                evidence.compare(
                    tallies["candidate"][decides],
                    tallies[name][decides],
                    metric,
                    margin=0,
                    level=ALPHA / 2,
                )
            )
            for name in cheap
        },
        "calibration": None
        if right is None
        else _calibration(scorer, outputs, pd.Series(right, test.index), validation, evaluate.bins),
        "slices": slices.measure(
            sliced, of_y, y, predictions["candidate"], metric, evaluate.slices, CONFIDENCE
        ),
        "robustness": robustness.measure(scorer, test, y, metric, evaluate.robustness, ALPHA),
    }
    job.cost["models"] = {
        name: {"milliseconds_a_row": of.milliseconds, "megabytes": of.megabytes}
        for name, of in cheap.items()
    }
    if meter:
        job.cost["models"]["candidate"] = asdict(
            meter.measure(folder, test.head(evaluate.cost_rows or 0), compute)
        )

    headlines = {
        name: {headline: of[headline] for headline in of_y.HEADLINES} for name, of in models.items()
    }
    receipts.write_json(job.hand_on("metrics.json"), {
        **headlines["candidate"],
        "baselines": {name: {decides: headlines[name][decides]} for name in cheap},
        **({"calibration_error": found["calibration"]["as_it_is"]["error"]} if found["calibration"] else {}),
        "rows": len(test),
    })  # fmt: skip
    receipts.write_json(job.hand_on("report.json"), found)
    manifest.write_table(
        predictions,
        job.hand_on("predictions.parquet"),
        manifest.predictions_schema(predictions, ["candidate", *cheap]),
    )
    confusions = of_y.confusions(y, predictions["candidate"])
    _write_confusion(confusions, job)
    if y.dtype == float:
        plots.scatter(y, predictions["candidate"], job.hand_on("confusion.png"))
    else:
        plots.confusion(confusions, labels, job.hand_on("confusion.png"))
    page.write(job.out / "report.html", page.Findings(
        task=job.key,
        facts={"test rows": len(test), **({"labels": len(labels)} if labels else {}), "train rows": len(train), "validation rows": len(validation)},
        titles=of_y.HEADLINES,
        less={name for name, of in of_y.METRICS.items() if of.less},
        headlines=headlines,
        confidence=CONFIDENCE,
        found=found,
        cost=job.cost["models"],
        taken_for=page.taken_for(confusions),
        confusion=(job.out / "confusion.png").read_bytes(),
        curves=plots.learning_curves(history, decides, metric.title, kept),
        reliability=plots.reliability(found["calibration"]) if found["calibration"] else None,
        mistakes=mistakes.collect(scorer, test, predictions, severity),
        wrong=int((severity > 0).sum()),
        doubts=mistakes.doubts(scorer, issues["issues"]),
        doubted=len(issues["issues"]),
        judged=issues["judged"],
        agreed=issues["accuracy"],
        judge_fits=issues["fit"],
    ))  # fmt: skip
    return f"{len(test):,} test rows, {metric.title} " + ", ".join(
        f"{name} {of[decides]:.4f}" for name, of in models.items()
    )


def _intervals(of_y: plugins.Problem, tallies: dict[str, Tally]) -> dict[str, Any]:
    """Return the intervals of a model's scores, and of the parts of the problem's first metric: what its table of labels shows."""
    found = {
        name: evidence.intervals(tallies[name], of, alpha=ALPHA)
        for name, of in of_y.METRICS.items()
    }
    parts = asdict(found[plugins.deciding(of_y, None)])["parts"]
    return {
        "confidence": CONFIDENCE,
        **{name: asdict(of.score) for name, of in found.items()},
        "parts": parts,
    }


def _severity(tally: Tally, metric: Metric, confidence: "pd.Series[float]") -> "pd.Series[float]":
    """Return how bad each prediction is, 0 where it is right.

    That is the confidence of a wrong one or, where none is right or wrong, what the metric says of it alone.
    """
    if tally.right is not None:
        return confidence.where(~tally.right, 0.0)
    of_kinds = metric.value(tally.counts)[:, 0]
    return pd.Series(of_kinds[tally.kinds] * (1 if metric.less else -1), confidence.index)


def _calibration(
    scorer: Scorer,
    outputs: calibration.Array,
    right: "pd.Series[bool]",
    validation: pd.DataFrame,
    bins: int,
) -> dict[str, Any]:
    """Return how far the confidence of the test rows is off, as it is and with the temperature that validation asks for."""
    of_y, targets = (
        scorer.of_y,
        linear.array(scorer.of_y.targets(validation["y"], scorer.card["labels"])),
    )
    temperatures = {
        "as_it_is": 1.0,
        "scaled": calibration.temperature(of_y, scoring.score(scorer, validation), targets),
    }

    def confidence(temperature: float) -> "pd.Series[float]":
        return of_y.decode(outputs.astype(float) / temperature, scorer.card["labels"])[
            "confidence"
        ].set_axis(right.index)

    return {
        name: calibration.examine(confidence(t), right, t, bins, ALPHA)
        for name, t in temperatures.items()
    }


def _write_confusion(confusions: pd.DataFrame, job: Job) -> None:
    """Write a row a pair, as DVC's confusion template wants it."""
    with job.hand_on("confusion.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows(
            (cell(a), cell(b))
            for a, b in zip(confusions["actual"], confusions["predicted"], strict=True)
        )


if __name__ == "__main__":
    runner.run(evaluate)
