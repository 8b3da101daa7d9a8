"""Repeat the leak before a split: copies are made first, and then rows are split at random."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import elsewhere
from stages.contract import manifest, plugins

text = plugins.modality("text")


def leaked(
    train: Path, test: Path, columns: dict[str, str], copies: int, words: float
) -> dict[str, Any]:
    """Return macro-F1 of cheap models on TF-IDF, for both ways to split.

    They are scored on held-out rows, and on the untouched table `test`. The real stages give all
    rows of `train` copies with typing errors in a share of their words. Then rows are split at
    random (naive), or by split (refit), whose test part has only originals. The untouched rows that
    are near to no row of `train`, as those of split's test part are, are scored once more by
    themselves.
    """
    with tempfile.TemporaryDirectory() as made:
        folder, rows = Path(made), pd.read_csv(train)
        weights = rows[columns["y"]].value_counts().astype(float).to_dict()
        loose = {
            "min_rows": 1,
            "min_rows_per_label": 3,
            "max_label_ratio": 1000.0,
            "max_group_fraction": 1.0,
            "max_bad_fraction": 0.2,
        }
        elsewhere.texts(
            folder, train.read_bytes(), columns,
            validate=loose | {"label_distribution": {"name": "declared", "weights": weights,
                                                     "max_kl": 1.0}},
            augment={"share": 1.0, "copies": copies,
                     "transforms": [{"name": "keyboard", "words": words, "characters": 0.2}]},
            split={"validation": 0.1, "test": 0.2},
        )  # fmt: skip
        for stage in ("validate", "augment", "split"):
            elsewhere.run(folder, f"stages.{stage}", "texts")
        augmented = manifest.read(folder / "data/augment/texts/manifest.parquet")
        parts = {
            name: manifest.read(folder / f"data/split/texts/{name}.parquet")
            for name in ("train", "test")
        }
    untouched = pd.read_csv(test).rename(columns={columns["x"]: "x", columns["y"]: "y"})[["x", "y"]]
    tests = {
        "untouched": untouched,
        "untouched_and_new": untouched[new(rows[columns["x"]], untouched["x"])],
    }
    shuffled = augmented.assign(y=augmented["y"].str[0]).sample(frac=1, random_state=0)
    held = len(shuffled) // 5
    parts = {name: of.assign(y=of["y"].str[0]) for name, of in parts.items()}
    return {
        "originals": int((augmented["id"] == augmented["source_id"]).sum()),
        "copies": int((augmented["id"] != augmented["source_id"]).sum()),
        "untouched": len(untouched), "untouched_and_new": len(tests["untouched_and_new"]),
        "naive": scores(shuffled.iloc[held:], {"held_out": shuffled.iloc[:held], **tests}),
        "refit": scores(parts["train"], {"held_out": parts["test"], **tests}),
    }  # fmt: skip


def new(known: "pd.Series[str]", x: "pd.Series[str]") -> "pd.Series[bool]":
    """Return for each text whether it is near to no known one, and equal to none."""
    group = text.reading.alike(
        pd.DataFrame({"normal": text.reading.normalise(pd.concat([known, x], ignore_index=True))})
    )
    return ~group[len(known) :].set_axis(x.index).isin(group[: len(known)])


def scores(train: pd.DataFrame, tests: dict[str, pd.DataFrame]) -> dict[str, dict[str, float]]:
    """Return macro-F1 of a linear model and of the nearest neighbour on each set of rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import f1_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    learned, found = vectors.fit_transform(train["x"]), dict[str, dict[str, float]]()
    for name, model in (
        ("linear", LinearSVC()),
        ("nearest_neighbour", KNeighborsClassifier(1, metric="cosine")),
    ):
        model.fit(learned, train["y"])
        found[name] = {
            part: round(
                float(
                    f1_score(of["y"], model.predict(vectors.transform(of["x"])), average="macro")
                ),
                4,
            )
            for part, of in tests.items()
        }
    return found
