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


def _probabilities(
    rows: pd.DataFrame, labels: list[str], settings: LabelIssues
) -> "np.ndarray[Any, Any]":
    """Return the probability of each label for each row: (rows, labels).

    One-vs-rest logistic regression learns from the train rows of the other folds. Stochastic
    gradient descent fits it 10 to 60 times faster than L-BFGS; alpha = 1 / (c rows) is the same
    regularisation.
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


def _least_believed(
    rows: pd.DataFrame, believed: "np.ndarray[Any, Any]", labels: list[str]
) -> pd.DataFrame:
    """Return the rows whose own label is believed least.

    There are as many as confident learning counts wrong labels.
    """
    if rows["label"].nunique() < 2:
        return rows.head(0)
    from cleanlab.filter import find_label_issues

    rows = rows.assign(half=rows.groupby("label")["label"].transform("size") // 2)
    codes = np.asarray(pd.Categorical(rows["label"], labels).codes)
    doubted = rows.iloc[
        find_label_issues(
            codes,
            believed,
            filter_by="low_self_confidence",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
    ]
    return doubted[
        (doubted.groupby("label").cumcount() < doubted["half"])
        & (doubted["suggested"] != doubted["label"])
    ]
