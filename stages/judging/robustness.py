"""Alters test rows on purpose and says what each alteration costs the model."""

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.contract import draws, plugins
from stages.contract.metrics import Metric, Tally
from stages.contract.plugins import Encoded
from stages.judging import evidence
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
) -> list[dict[str, Any]]:
    """Return for each transform alone the metric of the rows as they are and altered, and the drop with its two-sided bounds.

    test are manifest rows, y their values (same index). settings.rows of them are drawn, whatever their order, and scored in one view:
    what averaging over views gains is no matter here. Labels are those that drawn rows have.
    """
    if not settings.transforms:
        return []
    drawn = test.loc[
        pd.Series([draws.uniform("robustness", settings.seed, i) for i in test["id"]], test.index)
        .nsmallest(settings.rows)
        .index
    ]
    labels = plugins.labels(scorer.of_y, y[drawn.index])

    def tally(encoded: Encoded) -> Tally:
        return metric.tally(
            y[drawn.index],
            scorer.decode(scoring.outputs(scorer, encoded, averaged=False), drawn)["predicted"],
            labels,
        )

    as_it_is, listed = tally(scorer.encode(drawn)), list[dict[str, Any]]()
    for transform in settings.transforms:
        altered = tally(
            scorer.of_x.encoding.encode_altered(
                drawn, scorer.processor, scorer.settings, transform, settings.seed
            )
        )
        of = evidence.compare(as_it_is, altered, metric, margin=0, level=alpha / 2)
        listed.append({
            "transform": json.loads(json.dumps(asdict(transform))),
            "rows": len(drawn),
            "as_it_is": of.candidate,
            "altered": of.baseline,
            "drop": {"value": of.difference, "low": of.lower, "high": of.upper},
        })  # fmt: skip
    return listed


def name(transform: dict[str, Any]) -> str:
    """Return what a person calls a transform of the report: albumentations' own name, or ours."""
    return str(transform.get("transform", transform["name"]))
