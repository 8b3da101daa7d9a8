"""Find rows whose label may be wrong: a cheap model that learned from other rows doubts it most.

cleanlab's confident learning (Northcutt, Jiang, Chuang 2021) says how many labels are wrong; the
rows whose own label has the lowest probability are named (Kuan, Mueller 2022). Models of the other
folds judge train rows, and a model of the train rows judges held-out rows, so that no label of
validation or test says anything about a train row.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract import draws
from stages.models import cheap
from stages.params.evaluate import LabelIssues, Linear

Numbers = np.ndarray[Any, Any]

DIGITS = 4  # of the probabilities that are written
# The cheap model's doubts count only if it gets this share of the train rows right, and avoids this
# share of the errors of the most frequent label.
LEAST_RIGHT = 0.7
LEAST_BETTER = 0.5
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
    """Return the originals whose label may be wrong, and what was looked at.

    The least believed come first. samples are manifest rows. part has the part of each row (null if
    it is in none), y its label, one for each row: its stratum. At most half of the rows of a label
    are named. Near duplicates share a fold, so that none vouches for another. If the cheap model is
    not right often enough (fit is false), no row is named: its doubts would be its own mistakes.
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
    rows = rows.assign(
        suggested=np.array(labels, dtype=object)[believed.argmax(axis=1)],
        probability_of_label=believed[np.arange(len(rows)), _codes(rows, labels)],
        probability_of_suggested=believed.max(axis=1),
    )
    looked |= _judged(rows)
    if not looked["fit"]:
        return pd.DataFrame(columns=COLUMNS), looked
    train = rows["part"] == "train"
    issues = pd.concat(
        [_least_believed(rows[side], believed[side], labels) for side in (train, ~train)]
    ).sort_values(["probability_of_label", "id"], ignore_index=True)
    return issues[COLUMNS].round(DIGITS), looked


def _codes(rows: pd.DataFrame, labels: list[str]) -> Numbers:
    return np.asarray(pd.Categorical(rows["label"], labels).codes)


def _judged(rows: pd.DataFrame) -> dict[str, Any]:
    """Return how many rows of each part were judged, how many rightly, and whether that is fit."""
    right = (rows["suggested"] == rows["label"]).groupby(rows["part"])
    accuracy = {name: round(float(of.mean()), DIGITS) for name, of in right}
    shares = rows.loc[rows["part"] == "train", "label"].value_counts(normalize=True)
    least = max(LEAST_RIGHT, 1 - LEAST_BETTER * (1 - shares.iloc[0]))
    return {
        "judged": {name: len(of) for name, of in right},
        "accuracy": accuracy,
        "fit": bool(accuracy["train"] >= least),
    }


def _drawn(rows: pd.DataFrame, settings: LabelIssues) -> pd.DataFrame:
    """Return at most max_rows of the rows, with the fold of each, of labels that are in every fold.

    Held-out rows have a fold of their own.
    """
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


def _probabilities(rows: pd.DataFrame, labels: list[str], settings: LabelIssues) -> Numbers:
    """Return the probability of each label for each row: (rows, labels).

    One-vs-rest logistic regression learns from the train rows of the other folds. Stochastic
    gradient descent fits it 10 to 60 times faster than L-BFGS; alpha = 1 / (c rows) is the same
    regularisation.
    """
    assert settings.model, "no row is drawn without one"
    x, weigh = _counted(settings.model, rows["x"])
    believed = np.zeros((len(rows), len(labels)))
    for fold in range(settings.folds + 1):
        known = ((rows["part"] == "train") & (rows["fold"] != fold)).to_numpy()
        asked = (rows["fold"] == fold).to_numpy()
        if asked.any():
            used = _used(x, known)
            alpha = 1 / (settings.model.c * known.sum())
            model = _learned(weigh, used[known], rows["label"][known], alpha, settings.seed)
            columns = np.searchsorted(labels, model.classes_)
            believed[np.flatnonzero(asked)[:, None], columns] = model.predict_proba(used[asked])
    return believed


def _used(x: Any, known: Numbers) -> Any:
    """Return the features that some known row has."""
    if isinstance(x, np.ndarray):
        return x
    return x[:, np.bincount(x[known].indices, minlength=x.shape[1]) > 0]


def _learned(weigh: Any, x: Any, y: "pd.Series[str]", alpha: float, seed: int) -> Any:
    """Return logistic regression over weighed features, fitted to rows."""
    from sklearn.base import clone
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    classifier = SGDClassifier(loss="log_loss", alpha=alpha, random_state=seed)
    return make_pipeline(clone(weigh), classifier).fit(x, y)


def _counted(model: Linear, x: "pd.Series[str]") -> tuple[Any, Any]:
    """Return the features of the rows, and the transformer that weighs them anew in each fold.

    Words and characters are counted here, once, because counting is most of what a fold would cost.
    A fold then keeps the columns that occur in its known rows, which gives the same numbers as
    counting only those rows.
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


def _least_believed(rows: pd.DataFrame, believed: Numbers, labels: list[str]) -> pd.DataFrame:
    """Return the rows whose own label is believed least.

    There are as many as confident learning counts wrong labels.
    """
    if rows["label"].nunique() < 2:
        return rows.head(0)
    from cleanlab.filter import find_label_issues

    rows = rows.assign(half=rows.groupby("label")["label"].transform("size") // 2)
    places = find_label_issues(
        _codes(rows, labels),
        believed,
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    doubted = rows.iloc[places]
    return doubted[
        (doubted.groupby("label").cumcount() < doubted["half"])
        & (doubted["suggested"] != doubted["label"])
    ]
