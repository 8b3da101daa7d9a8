"""Evaluates the candidate and the cheap baselines on the same test rows."""

import csv
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from stages.contract import history, manifest, plugins, receipts, runner
from stages.contract.errors import ParamsError
from stages.contract.escape import cell
from stages.contract.metrics import Metric, Tally
from stages.contract.problem import Problem
from stages.contract.runner import Job
from stages.domain import survey
from stages.judging import baselines, calibration, cost, evidence, robustness, slices
from stages.judging.baselines import Scored
from stages.judging.report import Calibration, Deciding, LabelScores, Model, Report
from stages.models import linear, scoring
from stages.models.activations import Base
from stages.models.scoring import Scorer
from stages.params import problems
from stages.params.compute import Compute
from stages.params.evaluate import Evaluate
from stages.report import mistakes, page, plots

CONFIDENCE = 0.95  # of the intervals that are shown
ALPHA = 1 - CONFIDENCE


def evaluate(
    job: Job, problem: problems.Problem, base: str, compute: Compute, evaluate: Evaluate
) -> str:
    """Write metrics.json, the report as JSON and as a page, every prediction, and confusions."""
    meter = cost.Meter() if evaluate.cost_rows else None
    of_y = plugins.problem(problem.name)
    train, validation, test = (
        manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS
    )
    scorer = scoring.load(folder := job.take("export", "model").parent, compute)
    job.take("export", "model.json")
    _require_transforms(job, scorer, evaluate)
    frozen = Base(job.raw(base)[0], scorer.of_x, of_y, scorer.settings, compute)

    outputs = scoring.score(scorer, test)
    known = baselines.known(train, validation)
    cheap = {one.name: baselines.score(one, known, test, frozen) for one in evaluate.baselines}
    predictions = _predictions(scorer, outputs, test, cheap)
    measured = _measure(of_y, predictions, list(cheap), scorer.saved.labels)
    metric = of_y.METRICS[decides := plugins.deciding(of_y, evaluate.metric)]
    y, predicted = predictions["y"], predictions["candidate"]
    ways = _ways_to_slice(job, scorer, test, frozen, evaluate)
    report = Report(
        metric=Deciding(decides, metric.title, metric.part, metric.less),
        metric_of_slices=of_y.OF_SLICES,
        confidence=CONFIDENCE,
        models={name: one.model for name, one in measured.items()},
        beside={name: _beside(measured, name, decides, metric) for name in cheap},
        calibration=_calibration(scorer, outputs, measured, test, validation, evaluate.bins),
        slices=slices.measure(ways, of_y, y, predicted, metric, evaluate.slices, CONFIDENCE),
        robustness=robustness.measure(scorer, test, y, metric, evaluate.robustness, ALPHA),
    )
    job.cost["models"] = {name: _price(one) for name, one in cheap.items()}
    if meter:
        sample = test.head(evaluate.cost_rows or 0)
        job.cost["models"]["candidate"] = asdict(meter.measure(folder, sample, compute))

    confusions = of_y.confusions(y, predicted)
    _write(job, of_y, report, predictions, confusions)
    rows = {"test rows": len(test), "train rows": len(train), "validation rows": len(validation)}
    severity = _severity(of_y, measured["candidate"], predictions["confidence"])
    _write_page(job, scorer, report, test, predictions, confusions, severity, rows)
    scores = ", ".join(f"{name} {one.scores[decides]:.4f}" for name, one in report.models.items())
    return f"{len(test):,} test rows, {metric.title} {scores}"


@dataclass(frozen=True)
class Measured:
    """What a model scores, and its tally by each metric of the problem."""

    model: Model
    tallies: dict[str, Tally]


def _require_transforms(job: Job, scorer: Scorer, evaluate: Evaluate) -> None:
    if faults := scorer.of_x.altering.faults(evaluate.robustness.transforms):
        raise ParamsError(f"params.yaml: tasks.{job.key}.evaluate.robustness.{'; '.join(faults)}")


def _predictions(
    scorer: Scorer, outputs: Any, test: pd.DataFrame, cheap: dict[str, Scored]
) -> pd.DataFrame:
    """Return id, y, confidence and a column of values for each model, a row each test row."""
    decoded = scorer.decode(outputs, test).rename(columns={"predicted": "candidate"})
    decoded = decoded.assign(id=test["id"], y=scorer.of_y.values(test["y"]))
    return decoded.assign(**{name: one.predicted for name, one in cheap.items()})


def _measure(
    of_y: Problem, predictions: pd.DataFrame, cheap: list[str], labels: list[str]
) -> dict[str, Measured]:
    """Return what each model scores on the test rows, the candidate first."""
    y, measured = predictions["y"], dict[str, Measured]()
    for name in ("candidate", *cheap):
        predicted = predictions[name]
        tallies = {key: one.tally(y, predicted, labels) for key, one in of_y.METRICS.items()}
        measures = of_y.measure(y.tolist(), predicted.tolist(), labels)
        intervals = {
            key: evidence.intervals(tallies[key], one, alpha=ALPHA)
            for key, one in of_y.METRICS.items()
        }
        by_label = measures.pop("labels", {})
        model = Model(
            rows=measures.pop("rows"),
            scores=measures,
            labels={label: LabelScores(**one) for label, one in by_label.items()},
            intervals={key: one.score for key, one in intervals.items()},
            parts=intervals[plugins.deciding(of_y, None)].parts,
        )
        measured[name] = Measured(model, tallies)
    return measured


def _beside(
    measured: dict[str, Measured], name: str, decides: str, metric: Metric
) -> evidence.Comparison:
    """Return how much better the candidate is than a baseline."""
    candidate, other = (measured[one].tallies[decides] for one in ("candidate", name))
    return evidence.compare(candidate, other, metric, margin=0, level=ALPHA / 2)


def _calibration(
    scorer: Scorer,
    outputs: Any,
    measured: dict[str, Measured],
    test: pd.DataFrame,
    validation: pd.DataFrame,
    bins: int,
) -> Calibration | None:
    """Return how far the confidence of the test rows is off; null if no row is right or wrong."""
    of_y, labels = scorer.of_y, scorer.saved.labels
    hits = measured["candidate"].tallies[of_y.OF_SLICES].right
    if hits is None:
        return None
    right, targets = (
        pd.Series(list[bool](hits), test.index),
        linear.array(of_y.targets(validation["y"], labels)),
    )
    best = calibration.temperature(of_y, scoring.score(scorer, validation), targets)

    def examine(temperature: float) -> Any:
        decoded = of_y.decode(outputs.astype(float) / temperature, labels)
        confidence = decoded["confidence"].set_axis(test.index)
        return calibration.examine(confidence, right, temperature, bins, ALPHA)

    return Calibration(examine(1.0), examine(best))


def _ways_to_slice(
    job: Job, scorer: Scorer, test: pd.DataFrame, frozen: Base, evaluate: Evaluate
) -> pd.DataFrame:
    """Return a column for each way to slice the test rows."""
    profile = receipts.read_json(job.unsigned("validate", "domain.json"))["profile"]
    features = scorer.of_x.reading.look(test["x"], scorer.settings).select_dtypes("number")
    features["domain distance"] = survey.distances_of_rows(
        profile, test, frozen, evaluate.slices.distance_rows
    )
    return slices.columns(features, test["meta"], evaluate.slices)


def _severity(
    of_y: Problem, candidate: Measured, confidence: "pd.Series[float]"
) -> "pd.Series[float]":
    """Return how bad each prediction is, 0 if it is right.

    That is the confidence of a wrong one or, if none is right or wrong, what the metric for few
    rows says of the row alone.
    """
    tally, metric = candidate.tallies[of_y.OF_SLICES], of_y.METRICS[of_y.OF_SLICES]
    if tally.right is not None:
        return confidence.where(~tally.right, 0.0)
    by_kind = metric.value(tally.counts)[:, 0]
    return pd.Series(by_kind[tally.kinds] * (1 if metric.less else -1), confidence.index)


def _price(cheap: Scored) -> dict[str, float]:
    return {"milliseconds_a_row": cheap.milliseconds, "megabytes": cheap.megabytes}


def _write(
    job: Job,
    of_y: Problem,
    report: Report,
    predictions: pd.DataFrame,
    confusions: pd.DataFrame,
) -> None:
    """Write what later stages and DVC read."""
    receipts.write_json(job.hand_on("metrics.json"), report.metrics(of_y.HEADLINES))
    report.write(job.hand_on("report.json"))
    schema = manifest.predictions_schema(predictions, ["candidate", *report.beside])
    manifest.write_table(predictions, job.hand_on("predictions.parquet"), schema)
    _write_confusion(confusions, job)
    if predictions["y"].dtype == float:
        plots.scatter(predictions["y"], predictions["candidate"], job.hand_on("confusion.png"))
    else:
        labels = list(report.candidate.labels)
        plots.confusion(confusions, labels, job.hand_on("confusion.png"))


def _write_confusion(confusions: pd.DataFrame, job: Job) -> None:
    """Write a row a pair, as DVC's confusion template reads it."""
    with job.hand_on("confusion.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        pairs = zip(confusions["actual"], confusions["predicted"], strict=True)
        writer.writerows((cell(actual), cell(predicted)) for actual, predicted in pairs)


def _write_page(
    job: Job,
    scorer: Scorer,
    report: Report,
    test: pd.DataFrame,
    predictions: pd.DataFrame,
    confusions: pd.DataFrame,
    severity: "pd.Series[float]",
    rows: dict[str, int],
) -> None:
    """Write the page that a person opens."""
    of_y, metric = scorer.of_y, report.metric
    trained = history.read(job.take("finetune", "history.json"))
    issues = receipts.read_json(job.unsigned("split", "label_issues.json"))
    calibrated = report.calibration
    labels = {"labels": len(scorer.saved.labels)} if scorer.saved.labels else {}
    findings = page.Findings(
        task=job.key,
        facts=rows | labels,
        titles=of_y.HEADLINES,
        less={name for name, one in of_y.METRICS.items() if one.less},
        report=report,
        cost=job.cost["models"],
        taken_for=page.taken_for(confusions),
        confusion=(job.out / "confusion.png").read_bytes(),
        curves=plots.learning_curves(trained, metric.name, metric.title),
        reliability=plots.reliability(calibrated) if calibrated else None,
        mistakes=mistakes.collect(scorer, test, predictions, severity),
        wrong=int((severity > 0).sum()),
        doubts=mistakes.doubts(scorer, issues["issues"]),
        doubted=len(issues["issues"]),
        judged=issues["judged"],
        agreed=issues["accuracy"],
        judge_fits=issues["fit"],
    )
    page.write(job.out / "report.html", findings)


if __name__ == "__main__":
    runner.run(evaluate)
