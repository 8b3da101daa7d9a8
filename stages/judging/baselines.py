"""Scores rows with models that cost next to nothing: what a fine-tuned model must beat to be worth its price."""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract.params import Majority, TfidfLogistic

Baseline = Majority | TfidfLogistic


def predict(baseline: Baseline, train: pd.DataFrame, y: "pd.Series[str]", test: pd.DataFrame) -> "np.ndarray[Any, Any]":
    """Fit on train (manifest rows and their labels y) and return a label for each row of test."""
    match baseline:
        case Majority():
            return np.full(len(test), y.mode().iloc[0], dtype=object)
        case TfidfLogistic():
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline

            words = TfidfVectorizer(ngram_range=baseline.ngrams, sublinear_tf=True, token_pattern=r"(?u)\S+")  # noqa: S106  (no password)
            model = make_pipeline(words, LogisticRegression(C=baseline.c, max_iter=1000))
            return model.fit(train["x"], y).predict(test["x"])
