"""Alters test rows on purpose and says what each alteration costs the model."""

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.contract import draws, plugins
from stages.contract.learning import Encoded
from stages.contract.metrics import Metric, Tally
from stages.judging import evidence
from stages.judging.evidence import Interval
from stages.judging.report import Alteration
from stages.models import scoring
from stages.models.scoring import Scorer
from stages.params.evaluate import Alterations


def measure(
    scorer: Scorer,
    test: pd.DataFrame,
    y: "pd.Series[Any]",
    metric: Metric,
    settings: Alterations,
    alpha: float,
) -> list[Alteration]:
    """Return, for each transform alone, the metric of the rows as they are and altered.

    test are manifest rows, y their values (same index). settings.rows of them are drawn, whatever
    their order, and scored in one view: averaging over views would only cost time. Labels are
    those that the drawn rows have.
    """
    if not settings.transforms:
        return []
    draw = [draws.uniform("robustness", settings.seed, i) for i in test["id"]]
    drawn = test.loc[pd.Series(draw, test.index).nsmallest(settings.rows).index]
    labels = plugins.labels(scorer.of_y, y[drawn.index])

    def tally(encoded: Encoded) -> Tally:
        outputs = scoring.outputs(scorer, encoded, averaged=False)
        return metric.tally(y[drawn.index], scorer.decode(outputs, drawn)["predicted"], labels)

    as_it_is, measured = tally(scorer.encode(drawn)), list[Alteration]()
    encoding = scorer.of_x.encoding
    for transform in settings.transforms:
        altered = tally(
            encoding.encode_altered(
                drawn, scorer.processor, scorer.settings, transform, settings.seed
            )
        )
        drop = evidence.compare(as_it_is, altered, metric, margin=0, level=alpha / 2)
        measured.append(
            Alteration(
                transform=json.loads(json.dumps(asdict(transform))),
                rows=len(drawn),
                as_it_is=drop.candidate,
                altered=drop.baseline,
                drop=Interval(drop.difference, drop.lower, drop.upper),
            )
        )
    return measured


def name(transform: dict[str, Any]) -> str:
    """Return the name of a transform of the report: albumentations' own, or ours."""
    return str(transform.get("transform", transform["name"]))
