"""Alters test rows on purpose and says what each alteration costs the model."""

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.contract import draws
from stages.contract.params import Alterations
from stages.contract.plugins import Encoded
from stages.judging import scoring, statistics
from stages.judging.scoring import Scorer


def measure(scorer: Scorer, test: pd.DataFrame, y: "pd.Series[str]", settings: Alterations, alpha: float) -> list[dict[str, Any]]:
    """Return for each transform alone macro-F1 of the rows as they are and altered, and the drop with its two-sided bounds.

    test are manifest rows, y their labels (same index). settings.rows of them are drawn, whatever their order, and scored in one view:
    what averaging over views gains is no matter here. Macro-F1 is over the labels that drawn rows have.
    """
    if not settings.transforms:
        return []
    drawn = test.loc[pd.Series([draws.uniform("robustness", settings.seed, i) for i in test["id"]], test.index).nsmallest(settings.rows).index]
    labels = sorted(set(y[drawn.index]))

    def predicted(encoded: Encoded) -> "pd.Series[str]":
        return scorer.decode(scoring.logits(scorer, encoded, averaged=False), drawn)["predicted"]

    as_it_is, listed = predicted(scorer.encode(drawn)), list[dict[str, Any]]()
    for transform in settings.transforms:
        altered = predicted(scorer.of_x.encode_altered(drawn, scorer.processor, scorer.settings, transform, settings.seed))
        of = statistics.compare(y[drawn.index], as_it_is, altered, labels, margin=0, level=alpha / 2)
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
