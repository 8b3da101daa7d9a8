"""Fit linear models to features that cost next to nothing.

The features are counts of words or characters, or histograms of gradients and colours.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from stages.contract import plugins, receipts
from stages.contract.problem import Problem
from stages.models.saved import Saved
from stages.params.evaluate import Linear
from stages.params.text import TfidfCharacters, TfidfLogistic

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fitted:
    """What a linear model has learned, as numbers (float32) and words; nothing in it is code."""

    settings: Linear
    labels: list[str]
    numbers: dict[str, Array]
    """weights (outputs, features), bias (outputs), and idf, or mean and scale (features each)"""
    vocabulary: list[str]
    """the features of a text, in their order"""


def features(model: Linear, x: "pd.Series[str]") -> Array:
    """Return what the model learns from: the texts, or a row of numbers for each picture."""
    return plugins.modality(model.READS).features.features(x)


def untrained(model: Linear, classifier: Any) -> Any:
    """Return a pipeline that ends in the classifier and learns from features."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    first = (
        _vectorizer(model)
        if isinstance(model, TfidfLogistic | TfidfCharacters)
        else StandardScaler()
    )
    return make_pipeline(first, classifier)


def fit(model: Linear, of_y: Problem, known: Array, targets: Array, labels: list[str]) -> Fitted:
    """Fit the problem's linear model to features and their targets."""
    first = untrained(model, None)[0]
    weights, bias = of_y.fit(
        first.fit_transform(known), targets, plugins.outputs(labels), model.c, balanced=False
    )
    numbers, vocabulary = {"weights": weights, "bias": bias}, list[str]()
    if isinstance(model, TfidfLogistic | TfidfCharacters):
        numbers, vocabulary = numbers | {"idf": first.idf_}, first.get_feature_names_out().tolist()
    else:
        numbers |= {"mean": first.mean_, "scale": first.scale_}
    return Fitted(
        model,
        labels,
        {name: values.astype(np.float32) for name, values in numbers.items()},
        vocabulary,
    )


def outputs(fitted: Fitted, asked: Array) -> Array:
    """Return the outputs (rows, outputs) of features."""
    values = fitted.numbers
    if isinstance(fitted.settings, TfidfLogistic | TfidfCharacters):
        vectorizer = _vectorizer(fitted.settings, fitted.vocabulary)
        vectorizer.idf_ = values["idf"]
        return vectorizer.transform(asked) @ values["weights"].T + values["bias"]
    return (asked - values["mean"]) / values["scale"] @ values["weights"].T + values["bias"]


def save(fitted: Fitted, folder: Path, trained: Saved) -> None:
    """Write model.json and model/ (safetensors and JSON) as finetune does.

    trained is the fine-tuned model that it stands beside.
    """
    from safetensors.numpy import save_file

    (folder / "model").mkdir(parents=True)
    save_file(
        {name: np.ascontiguousarray(values) for name, values in fitted.numbers.items()},
        folder / "model/model.safetensors",
    )
    receipts.write_json(folder / "model/vocabulary.json", fitted.vocabulary)
    sha256 = receipts.digest(receipts.files(folder, ["model"]))
    settings = asdict(fitted.settings)
    described = replace(trained, labels=fitted.labels, baseline=settings, sha256=sha256)
    described.write(folder / "model.json")


def load(folder: Path, saved: Saved) -> Fitted:
    """Return the model that save wrote, whose bytes must be verified already."""
    from safetensors.numpy import load_file

    return Fitted(
        TypeAdapter(Linear).validate_json(json.dumps(saved.baseline)),
        saved.labels,
        load_file(folder / "model/model.safetensors"),
        receipts.read_json(folder / "model/vocabulary.json"),
    )


def score(fitted: Fitted, x: "pd.Series[str]") -> Array:
    """Return the outputs (rows, outputs) of samples."""
    return outputs(fitted, features(fitted.settings, x))


def _vectorizer(model: TfidfLogistic | TfidfCharacters, vocabulary: list[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    kind: dict[str, Any] = (
        {"analyzer": "char_wb"}
        if isinstance(model, TfidfCharacters)
        else {"token_pattern": r"(?u)\S+"}
    )
    return TfidfVectorizer(
        ngram_range=model.ngrams, sublinear_tf=True, vocabulary=vocabulary, **kind
    )
