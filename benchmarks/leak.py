"""Repeats the leak that stands before a split: copies are made first, and then rows are parted at random."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import elsewhere
from stages.contract import manifest

KEYBOARD = {"name": "keyboard", "words": 0.2, "characters": 0.2}


def leaked(train: Path, test: Path, columns: dict[str, str], copies: int) -> dict[str, Any]:
    """Return macro-F1 of cheap models on TF-IDF, on held-out rows and on the untouched table `test`, for both ways to part.

    All rows of `train` get copies with typing errors by the real stages; then rows are parted at random (naive), or by
    split (refit), whose test part holds originals alone.
    """
    with tempfile.TemporaryDirectory() as made:
        folder, rows = Path(made), pd.read_csv(train)
        weights = rows[columns["y"]].value_counts().astype(float).to_dict()
        loose = {"min_rows_per_label": 3, "max_label_ratio": 1000.0, "max_group_fraction": 1.0, "max_bad_fraction": 0.2}
        elsewhere.texts(
            folder, train.read_bytes(), columns,
            validate=loose | {"label_distribution": {"name": "declared", "weights": weights, "max_kl": 1.0}},
            augment={"share": 1.0, "copies": copies, "transforms": [KEYBOARD]}, split={"validation": 0.1, "test": 0.2},
        )  # fmt: skip
        for stage in ("validate", "augment", "split"):
            elsewhere.run(folder, f"stages.{stage}", "texts")
        augmented = manifest.read(folder / "data/augment/texts/manifest.parquet")
        parts = {name: manifest.read(folder / f"data/split/texts/{name}.parquet") for name in ("train", "test")}
    untouched = pd.read_csv(test).rename(columns={columns["x"]: "x", columns["y"]: "y"})[["x", "y"]]
    shuffled = augmented.assign(y=augmented["y"].str[0]).sample(frac=1, random_state=0)
    held = len(shuffled) // 5
    parts = {name: of.assign(y=of["y"].str[0]) for name, of in parts.items()}
    return {
        "originals": int((augmented["id"] == augmented["source_id"]).sum()), "copies": int((augmented["id"] != augmented["source_id"]).sum()),
        "naive": scores(shuffled.iloc[held:], shuffled.iloc[:held], untouched),
        "refit": scores(parts["train"], parts["test"], untouched),
    }  # fmt: skip


def scores(train: pd.DataFrame, held: pd.DataFrame, untouched: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return macro-F1 on the rows that were held out, and on untouched ones, of a linear model and of the nearest neighbour."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import f1_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    learned, found = vectors.fit_transform(train["x"]), dict[str, dict[str, float]]()
    for name, model in (("linear", LinearSVC()), ("nearest_neighbour", KNeighborsClassifier(1, metric="cosine"))):
        model.fit(learned, train["y"])
        parts = (("held_out", held), ("untouched", untouched))
        found[name] = {part: round(float(f1_score(of["y"], model.predict(vectors.transform(of["x"])), average="macro")), 4) for part, of in parts}
    return found
