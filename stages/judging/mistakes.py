"""Gathers the most confident mistakes for the report, where the model looked when it made them, and labels that may be wrong."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import plugins, receipts
from stages.judging import report, saliency
from stages.judging.report import Doubt, Mistake

SHOWN, MAPPED = 24, 6  # mistakes, and those of pictures that get a saliency map
SIDE, SEED = 224, 7  # pixels of a picture on the page; draws the noise of the maps
DOUBT = [field.name for field in fields(Doubt)][1:]


def collect(folder: Path, test: pd.DataFrame, predictions: pd.DataFrame) -> list[Mistake]:
    """Return the most confident mistakes of the model folder/model among the test rows; predictions stand in their order."""
    wrong = report.most_confident(predictions.set_index(test.index), SHOWN)
    card = receipts.read_json(folder / "model.json")
    samples, settings = test.loc[wrong.index], plugins.settings(card["modality"])
    shown = plugins.modality(card["modality"]["name"]).show(samples, settings)
    maps: list[bytes | None] = [None] * len(wrong)
    if shown and isinstance(shown[0], np.ndarray):
        maps[:MAPPED] = _maps(folder, card, samples.head(MAPPED), wrong["candidate"].head(MAPPED), shown)
    columns = (wrong["y"], wrong["candidate"], wrong["confidence"], samples["origin"])
    return [Mistake(*of) for of in zip(_small(shown), *(column.tolist() for column in columns), maps, strict=True)]


def doubts(folder: Path, issues: list[dict[str, Any]]) -> list[Doubt]:
    """Return the first of the rows whose label may be wrong (as split lists them), their pictures as the model of the folder sees them."""
    modality, first = receipts.read_json(folder / "model.json")["modality"], issues[:SHOWN]
    shown = plugins.modality(modality["name"]).show(pd.DataFrame(first, columns=["x"]), plugins.settings(modality)) if first else []
    return [Doubt(x, **{name: of[name] for name in DOUBT}) for x, of in zip(_small(shown), first, strict=True)]


def _small(shown: list[Any]) -> list[Any]:
    """Return texts as they are, and pictures as small ones."""
    return [saliency.thumbnail(x, SIDE) if isinstance(x, np.ndarray) else x for x in shown]


def _maps(folder: Path, card: dict[str, Any], samples: pd.DataFrame, predicted: "pd.Series[str]", shown: list["np.ndarray[Any, Any]"]) -> list[bytes]:
    """Return each picture with its saliency map laid over it."""
    import torch

    of_x, of_y = plugins.modality(card["modality"]["name"]), plugins.problem(card["problem"])
    model = of_y.load(folder / "model", card["modality"]["name"], card["labels"], new_head=False)[0]
    rows = of_x.encode(samples, of_x.processor(folder / "model"), plugins.settings(card["modality"]))
    inputs = torch.stack([rows[i]["pixel_values"] for i in range(len(rows))])
    maps = saliency.saliency(model, inputs, [card["labels"].index(label) for label in predicted], SEED)
    return [saliency.overlay(rgb, looked, SIDE) for rgb, looked in zip(shown, maps, strict=False)]
