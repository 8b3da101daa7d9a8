"""What evaluate measured on the test rows: report.json, written here and read here."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stages.contract import receipts
from stages.contract.errors import ReceiptError
from stages.contract.escape import one_line
from stages.judging.evidence import Comparison, Interval


@dataclass(frozen=True)
class Deciding:
    """The metric by which models are compared: key, name, and the name of a part's score."""

    name: str
    title: str
    part: str
    less: bool
    """whether less of it is better"""


@dataclass(frozen=True)
class LabelScores:
    """How well a model predicts one label."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Model:
    """What one model scores on the test rows."""

    rows: int
    scores: dict[str, float]
    labels: dict[str, LabelScores]
    """empty if the problem has no labels"""
    intervals: dict[str, Interval]
    """by metric"""
    parts: dict[str, Interval]
    """by part of the problem's first metric: by label, if there are labels"""


@dataclass(frozen=True)
class Slice:
    """The candidate on a slice of the test rows: the value of a column, or a range of it."""

    column: str
    slice: str
    rows: int
    score: float
    """by the deciding metric"""
    interval: Interval
    """by the metric for few rows"""
    weak: bool
    """whether the whole interval is worse than the score of all rows"""


@dataclass(frozen=True)
class Alteration:
    """The candidate on rows that one transform made worse, beside the same rows as they are."""

    transform: dict[str, Any]
    rows: int
    as_it_is: float
    altered: float
    drop: Interval


@dataclass(frozen=True)
class Bin:
    """Rows of about equal confidence, and the share of them that is right, with its interval."""

    rows: int
    confidence: float
    right: float
    low: float
    high: float


@dataclass(frozen=True)
class Confidence:
    """How far confidence and the share of right rows lie apart, after division by a temperature."""

    temperature: float
    error: float
    bins: list[Bin]


@dataclass(frozen=True)
class Calibration:
    """The candidate's confidence as it is, and scaled by the temperature that suits validation."""

    as_it_is: Confidence
    scaled: Confidence


@dataclass(frozen=True)
class Report:
    """Everything that evaluate measured."""

    metric: Deciding
    metric_of_slices: str
    confidence: float
    """of the intervals"""
    models: dict[str, Model]
    """the candidate first, then the baselines"""
    beside: dict[str, Comparison]
    """by baseline: how much better the candidate is"""
    calibration: Calibration | None
    """null if predictions have no confidence"""
    slices: list[Slice]
    robustness: list[Alteration]

    @property
    def candidate(self) -> Model:
        """The candidate's scores."""
        return self.models["candidate"]

    def metrics(self, headlines: Iterable[str]) -> dict[str, Any]:
        """Return the numbers that DVC and MLflow show: metrics.json.

        They are the candidate's headlines, and the score of each baseline by the deciding metric.
        """
        decides, calibrated = self.metric.name, self.calibration
        beside = {name: {decides: self.models[name].scores[decides]} for name in self.beside}
        off = {"calibration_error": calibrated.as_it_is.error} if calibrated else {}
        scores = {name: self.candidate.scores[name] for name in headlines}
        return {**scores, "baselines": beside, **off, "rows": self.candidate.rows}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        receipts.write_json(path, asdict(self))


def read(path: Path) -> Report:
    """Read report.json; raises ReceiptError if another version of Refit wrote it."""
    try:
        return TypeAdapter(Report).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ReceiptError(
            f"{path}: is no report of this version "
            f"({one_line(f'{place}: ' + first['msg'], 200)}); "
            f"run `dvc repro evaluate@{path.parent.name}`"
        ) from None
