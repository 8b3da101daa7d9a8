"""Provide what cheap models learn from a text."""

from typing import Any

import numpy as np
import pandas as pd


def features(x: "pd.Series[str]") -> "np.ndarray[Any, Any]":
    """Return the texts: a vectorizer counts their words or characters."""
    return x.to_numpy()
