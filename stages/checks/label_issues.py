"""Finds rows whose label may be wrong: a cheap model that learned from other rows believes their own label least.

Confident learning (Northcutt, Jiang, Chuang 2021) by cleanlab says how many labels are wrong, and the least probability
of a row's own label says which (Kuan, Mueller 2022). Train rows are judged by models of the other folds, held-out rows by a
model of train: no label of validation or test says anything of a train row.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract import draws
from stages.models import cheap
from stages.params.evaluate import LabelIssues, Linear

DIGITS = 4  # of the probabilities that are written
LEAST_RIGHT = 0.7  # share of the train rows that the cheap model must get right before its doubt says something,
LEAST_BETTER = 0.5  # and the share that it must save of the errors of the most frequent label
COLUMNS = [
    "id",
    "part",
    "origin",
    "x",
    "label",
    "suggested",
    "probability_of_label",
    "probability_of_suggested",
]


def find(
    samples: pd.DataFrame, part: "pd.Series[str]", y: "pd.Series[str]", settings: LabelIssues
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the originals whose label may be wrong, the least believed first, and what was looked at.

    samples are manifest rows, part and y their parts (null where a row is in none) and labels, one a row: their strata. At most half of a label's
    rows are named. Near duplicates share a fold, so that none vouches for another. Where the cheap model is not right often
    enough (fit is false) no row is named: what it doubts would be its own mistakes.
    """
    rows = _drawn(
        samples.assign(part=part, label=y)[(samples["id"] == samples["source_id"]) & part.notna()],
        settings,
    )
    labels = sorted(rows["label"].unique())
    looked: dict[str, Any] = {"judged": {}, "accuracy": {}, "labels": labels, "fit": False}
    if len(labels) < 2:
        return pd.DataFrame(columns=COLUMNS), looked
    believed = _probabilities(rows, labels, settings)
    train = rows["part"] == "train"
    best = np.array(labels, dtype=object)[believed.argmax(axis=1)]
    for name, right in (best == rows["label"]).groupby(rows["part"]):
        looked["judged"][name], looked["accuracy"][name] = (
            len(right),
            round(float(right.mean()), DIGITS),
        )
    errors = 1 - rows.loc[train, "label"].value_counts(normalize=True).iloc[0]
    looked["fit"] = bool(looked["accuracy"]["train"] >= max(LEAST_RIGHT, 1 - LEAST_BETTER * errors))
    if not looked["fit"]:
        return pd.DataFrame(columns=COLUMNS), looked
    rows = rows.assign(
        suggested=best,
        probability_of_label=believed[
            np.arange(len(rows)), pd.Categorical(rows["label"], labels).codes
        ],
    )
    rows["probability_of_suggested"] = believed.max(axis=1)
    issues = pd.concat(
        [_least_believed(rows[side], believed[side], labels) for side in (train, ~train)]
    )
    return issues.sort_values(["probability_of_label", "id"], ignore_index=True)[COLUMNS].round(
        DIGITS
    ), looked


def _drawn(rows: pd.DataFrame, settings: LabelIssues) -> pd.DataFrame:
    """Return at most max_rows of the rows, with the fold of each (held-out rows have one of their own), of labels that stand in every fold."""
    draw = [draws.uniform("label_issues", settings.seed, group) for group in rows["group"]]
    rows = (
        rows.assign(draw=draw)
        .sort_values(["draw", "id"], ignore_index=True)
        .head(settings.max_rows if settings.model else 0)
    )
    groups = rows[rows["part"] == "train"].drop_duplicates("group")
    rows = rows[rows["label"].map(groups["label"].value_counts()) >= settings.folds]
    fold = pd.Series(
        (groups.groupby("label").cumcount() % settings.folds).array, index=groups["group"]
    )
    return rows.assign(fold=rows["group"].map(fold).fillna(settings.folds)).reset_index(drop=True)


def _probabilities(
    rows: pd.DataFrame, labels: list[str], settings: LabelIssues
) -> "np.ndarray[Any, Any]":
    """Return how likely each label is (rows, labels) by one-vs-rest logistic regression, learned from the train rows of the other folds.

    Stochastic gradient descent learns it 10 to 60 times faster than L-BFGS; 1 / (c rows) is the same regularisation.
    """
    from sklearn.base import clone
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    assert settings.model, "no row is drawn without one"
    x, weigh = _counted(settings.model, rows["x"])
    believed = np.zeros((len(rows), len(labels)))
    for fold in range(settings.folds + 1):
        known, asked = (
            ((rows["part"] == "train") & (rows["fold"] != fold)).to_numpy(),
            (rows["fold"] == fold).to_numpy(),
        )
        if asked.any():
            classifier = SGDClassifier(
                loss="log_loss",
                alpha=1 / (settings.model.c * known.sum()),
                random_state=settings.seed,
            )
            used = (
                x
                if isinstance(x, np.ndarray)
                else x[:, np.bincount(x[known].indices, minlength=x.shape[1]) > 0]
            )
            model = make_pipeline(clone(weigh), classifier).fit(used[known], rows["label"][known])
            believed[np.flatnonzero(asked)[:, None], np.searchsorted(labels, model.classes_)] = (
                model.predict_proba(used[asked])
            )
    return believed


def _counted(model: Linear, x: "pd.Series[str]") -> tuple[Any, Any]:
    """Return the features of rows and what weighs them anew in each fold.

    Words and characters are counted here, once: counting is most of what a fold would cost. A fold then keeps the columns
    of what its known rows say, which gives the numbers that counting those rows alone would.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

    features, first = cheap.features(model, x), cheap.untrained(model, None)[0]
    if not isinstance(first, TfidfVectorizer):
        return features, first
    weigh = TfidfTransformer(
        norm=first.norm,
        use_idf=first.use_idf,
        smooth_idf=first.smooth_idf,
        sublinear_tf=first.sublinear_tf,
    )
    return CountVectorizer.fit_transform(first, features), weigh


def _least_believed(
    rows: pd.DataFrame, believed: "np.ndarray[Any, Any]", labels: list[str]
) -> pd.DataFrame:
    """Return as many rows as confident learning counts wrong labels, those whose own label is believed least."""
    if rows["label"].nunique() < 2:
        return rows.head(0)
    from cleanlab.filter import find_label_issues

    rows = rows.assign(half=rows.groupby("label")["label"].transform("size") // 2)
    codes = np.asarray(pd.Categorical(rows["label"], labels).codes)
    found = rows.iloc[
        find_label_issues(
            codes,
            believed,
            filter_by="low_self_confidence",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
    ]
    return found[
        (found.groupby("label").cumcount() < found["half"]) & (found["suggested"] != found["label"])
    ]
