"""Alters test rows on purpose and says what each alteration costs the model."""

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.contract import draws
from stages.contract.params import Alterations
from stages.judging import scoring, statistics
from stages.judging.scoring import Scorer


def measure(scorer: Scorer, test: pd.DataFrame, y: "pd.Series[str]", predicted: "pd.Series[str]", settings: Alterations, alpha: float) -> list[dict[str, Any]]:
    """Return for each transform alone macro-F1 of the rows as they are and altered, and the drop with its two-sided bounds.

    test are manifest rows, y and predicted their labels (same index); rows that are drawn do not depend on their order.
    Macro-F1 is over the labels that drawn rows have.
    """
    drawn = test.loc[pd.Series([draws.uniform("robustness", settings.seed, i) for i in test["id"]], test.index).nsmallest(settings.rows).index]
    labels = sorted(set(y[drawn.index]))
    listed = list[dict[str, Any]]()
    for transform in settings.transforms:
        encoded = scorer.of_x.encode_altered(drawn, scorer.processor, scorer.settings, transform, settings.seed)
        altered = scorer.decode(scoring.logits(scorer, encoded), drawn)["predicted"]
        of = statistics.compare(y[drawn.index], predicted[drawn.index], altered, labels, margin=0, level=alpha / 2)
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
