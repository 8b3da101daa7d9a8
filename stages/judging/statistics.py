"""Says how sure one may be that one model is better than another on the same rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

CHUNK = 2_000  # resamples at a time: bounds memory


@dataclass(frozen=True)
class Comparison:
    """Macro-F1 of candidate minus baseline: its bounds are one-sided, each at level alpha."""

    candidate: float
    baseline: float
    difference: float
    lower: float
    upper: float
    p_value: float
    smallest_detectable: float
    by_label: dict[str, dict[str, float]]
    mcnemar_p: float


def compare(y: "pd.Series[str]", candidate: "pd.Series[str]", baseline: "pd.Series[str]", labels: list[str], *,
            margin: float, alpha: float, resamples: int, seed: int) -> Comparison:  # fmt: skip
    """Compare two models' predictions on the same rows by the paired bootstrap of the difference in macro-F1.

    Rows are drawn with replacement, both models scored on each draw (Efron & Tibshirani 1993, percentile bounds). Rows
    with equal (y, candidate, baseline) are exchangeable, so a draw is one multinomial over those cells. p_value is
    the share of draws whose difference is at most the margin (with the observed one counted). smallest_detectable is
    the difference that would have been detected at level alpha with power 0.8 under the bootstrap's standard error.
    """
    code = {name: i for i, name in enumerate(labels)}
    rows = pd.DataFrame({"y": y.map(code), "a": candidate.map(code), "b": baseline.map(code)}).fillna(-1).astype(int)
    cells = rows.value_counts().sort_index()
    y_, a_, b_ = (cells.index.get_level_values(name).to_numpy() for name in ("y", "a", "b"))
    counts = cells.to_numpy()
    generator = np.random.default_rng(seed)

    observed_a, observed_b = (_f1(counts[None, :], y_, p, len(labels))[0] for p in (a_, b_))
    by_label = np.concatenate([
        _f1(draw, y_, a_, len(labels)) - _f1(draw, y_, b_, len(labels))
        for size in _chunks(resamples)
        for draw in [generator.multinomial(counts.sum(), counts / counts.sum(), size=size)]
    ])  # fmt: skip
    macro = by_label.mean(axis=1)
    spread = macro.std(ddof=1)
    share = [float(np.cov(by_label[:, i] / len(labels), macro)[0, 1] / spread**2) if spread > 0 else 0.0 for i in range(len(labels))]
    bounds = np.quantile(by_label, [alpha, 1 - alpha], axis=0)
    return Comparison(
        candidate=float(observed_a.mean()),
        baseline=float(observed_b.mean()),
        difference=float((observed_a - observed_b).mean()),
        lower=float(np.quantile(macro, alpha)),
        upper=float(np.quantile(macro, 1 - alpha)),
        p_value=float(((macro <= margin).sum() + 1) / (resamples + 1)),
        smallest_detectable=float(margin + (_z(1 - alpha) + _z(0.8)) * spread),
        by_label={
            name: {
                "rows": int((rows["y"] == i).sum()),
                "candidate_f1": float(observed_a[i]),
                "baseline_f1": float(observed_b[i]),
                "lower": float(bounds[0, i]),
                "upper": float(bounds[1, i]),
                "share_of_variance": share[i],
            }
            for name, i in code.items()
        },
        mcnemar_p=mcnemar(candidate == y, baseline == y),
    )


def mcnemar(candidate_right: "pd.Series[bool]", baseline_right: "pd.Series[bool]") -> float:
    """Return the two-sided exact p of McNemar's test on accuracy (McNemar 1947; binomial on discordant rows)."""
    from scipy.stats import binomtest

    better, worse = int((candidate_right & ~baseline_right).sum()), int((~candidate_right & baseline_right).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _f1(counts: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]", predicted: "np.ndarray[Any, Any]", labels: int) -> "np.ndarray[Any, Any]":
    """Return F1 (draws, labels) for counts (draws, cells); 0 where a label is neither there nor predicted."""
    each = np.arange(labels)
    is_y, is_p = (y[:, None] == each).astype(float), (predicted[:, None] == each).astype(float)
    both, total = counts @ (is_y * is_p), counts @ (is_y + is_p)
    return np.divide(2 * both, total, out=np.zeros_like(total), where=total > 0)


def _chunks(resamples: int) -> list[int]:
    return [min(CHUNK, resamples - at) for at in range(0, resamples, CHUNK)]


def _z(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(level))
