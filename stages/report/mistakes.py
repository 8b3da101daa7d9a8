"""Gathers the rows that the report shows: the worst mistakes, and labels that may be wrong."""

from dataclasses import fields
from typing import Any

import pandas as pd

from stages.contract import plugins
from stages.models.scoring import Scorer
from stages.report import page
from stages.report.page import Doubt, Mistake

SHOWN, MAPPED = 24, 6  # mistakes, and those with a map of where the model looked
DOUBT = [field.name for field in fields(Doubt)][1:]


def collect(
    scorer: Scorer, test: pd.DataFrame, predictions: pd.DataFrame, severity: "pd.Series[float]"
) -> list[Mistake]:
    """Return the model's worst mistakes among the test rows (predictions, severity: same index)."""
    wrong = page.worst(predictions, severity, SHOWN)
    samples, saliency = test.loc[wrong.index], scorer.of_x.saliency
    maps: list[bytes | None] = [None] * len(wrong)
    form = plugins.export(scorer.saved.form)
    if saliency and len(wrong) and form.GRADIENTS:
        predicted = wrong["candidate"].head(MAPPED)
        maps[:MAPPED] = saliency.explain(scorer, samples.head(MAPPED), predicted)
    columns = [wrong["y"], wrong["candidate"], wrong["confidence"], samples["origin"]]
    values = [column.tolist() for column in columns]
    return [Mistake(*row) for row in zip(_shown(scorer, samples), *values, maps, strict=True)]


def doubts(scorer: Scorer, issues: list[dict[str, Any]]) -> list[Doubt]:
    """Return the first of the rows whose label may be wrong (as split lists them)."""
    first = issues[:SHOWN]
    shown = _shown(scorer, pd.DataFrame(first, columns=["x"])) if first else []
    return [
        Doubt(x, **{name: issue[name] for name in DOUBT})
        for x, issue in zip(shown, first, strict=True)
    ]


def _shown(scorer: Scorer, samples: pd.DataFrame) -> list[Any]:
    return scorer.of_x.showing.show(samples, scorer.settings)
