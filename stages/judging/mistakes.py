"""Gathers the most confident mistakes for the report, where the model looked when it made them, and labels that may be wrong."""

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from stages.judging import report, saliency
from stages.judging.report import Doubt, Mistake
from stages.judging.scoring import Scorer

SHOWN, MAPPED = 24, 6  # mistakes, and those of pictures that get a saliency map
SIDE, SEED = 224, 7  # pixels of a picture on the page; draws the noise of the maps
DOUBT = [field.name for field in fields(Doubt)][1:]


def collect(scorer: Scorer, test: pd.DataFrame, predictions: pd.DataFrame) -> list[Mistake]:
    """Return the model's most confident mistakes among the test rows (predictions: same index)."""
    wrong = report.most_confident(predictions, SHOWN)
    samples, shown = test.loc[wrong.index], _shown(scorer, test.loc[wrong.index])
    maps: list[bytes | None] = [None] * len(wrong)
    if shown and isinstance(shown[0], np.ndarray):
        maps[:MAPPED] = _maps(scorer, samples.head(MAPPED), wrong["candidate"].head(MAPPED), shown)
    columns = (wrong["y"], wrong["candidate"], wrong["confidence"], samples["origin"])
    return [Mistake(*of) for of in zip(_small(shown), *(column.tolist() for column in columns), maps, strict=True)]


def doubts(scorer: Scorer, issues: list[dict[str, Any]]) -> list[Doubt]:
    """Return the first of the rows whose label may be wrong (as split lists them), their pictures as the model sees them."""
    first = issues[:SHOWN]
    shown = _shown(scorer, pd.DataFrame(first, columns=["x"])) if first else []
    return [Doubt(x, **{name: of[name] for name in DOUBT}) for x, of in zip(_small(shown), first, strict=True)]


def _shown(scorer: Scorer, samples: pd.DataFrame) -> list[Any]:
    return scorer.of_x.show(samples, scorer.settings)


def _small(shown: list[Any]) -> list[Any]:
    """Return texts as they are, and pictures as small ones."""
    return [saliency.thumbnail(x, SIDE) if isinstance(x, np.ndarray) else x for x in shown]


def _maps(scorer: Scorer, samples: pd.DataFrame, predicted: "pd.Series[str]", shown: list["np.ndarray[Any, Any]"]) -> list[bytes]:
    """Return each picture with its saliency map laid over it."""
    rows, labels = scorer.encode(samples), scorer.card["labels"]
    inputs = scorer.of_x.collate(scorer.processor)([rows[i] for i in range(len(rows))])["pixel_values"]
    maps = saliency.saliency(scorer.model, inputs, [labels.index(label) for label in predicted], SEED)
    return [saliency.overlay(rgb, looked, SIDE) for rgb, looked in zip(shown, maps, strict=False)]
