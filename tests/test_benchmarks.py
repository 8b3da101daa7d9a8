"""Benchmarks at a size that a test can wait for: what they claim must hold there too."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import checks, images, leak
from tests.conftest import ROOT
from tests.test_formats import brought, converted  # noqa: F401  (fixtures)

pytestmark = pytest.mark.slow
HYMENOPTERA = ROOT.parent / "shared/data/hymenoptera/hymenoptera_256.zip"  # its licence forbids a copy in this repo


def test_memory_of_validate_augment_and_split_hardly_grows_with_the_number_of_pictures(tmp_path: Path) -> None:
    few, many = (images.peaks(tmp_path / str(number), number, 64) for number in (100, 1500))
    assert few.keys() == many.keys() == {"validate", "augment", "split"}
    assert all(many[stage] - few[stage] <= 200 for stage in few), (few, many)


@pytest.mark.skipif(not HYMENOPTERA.is_file(), reason="the photographs of ants and bees are not here, and may not be copied into the project")
def test_a_linear_probe_gains_from_pretraining(tmp_path: Path, converted: dict[str, Path]) -> None:  # noqa: F811
    """As docs/own_data.md adds ants and bees, on a part of them: the same model with random weights stays near chance."""
    with zipfile.ZipFile(HYMENOPTERA) as archive:
        for part, number in (("train", 40), ("val", 25)):
            for label in ("ants", "bees"):
                names = sorted(name for name in archive.namelist() if name.startswith(f"{part}/{label}/") and name.endswith(".jpg"))
                archive.extractall(tmp_path / "pictures", names[:number])
    (tmp_path / "project").mkdir()
    found = dict(images.probed(tmp_path / "project", tmp_path / "pictures", converted["mobilenet"]))
    pretrained, random = found["pretrained"], found["random"]
    assert pretrained["test_rows"] == random["test_rows"] == 50
    assert pretrained["accuracy"] >= 0.88
    assert random["accuracy"] <= 0.75


def test_labels_that_are_noise_are_learned_only_where_copies_leak(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    texts = checks.written(600, drawn)
    for name, rows in (("train", texts[:450]), ("test", texts[450:])):
        pd.DataFrame({"text": rows, "label": drawn.choice(["a", "b", "c"], len(rows))}).to_csv(tmp_path / f"{name}.csv", index=False)

    found = leak.leaked(tmp_path / "train.csv", tmp_path / "test.csv", {"x": "text", "y": "label"}, copies=2, words=0.1)

    naive, refit = (found[name]["nearest_neighbour"] for name in ("naive", "refit"))
    assert naive["held_out"] > 0.8  # a copy of it stands in train
    assert naive["untouched"] < 0.5
    assert refit["held_out"] < 0.5
