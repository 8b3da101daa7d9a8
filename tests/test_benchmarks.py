"""Benchmarks at a size that a test can wait for: what they claim must be true there, too."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import checks, elsewhere, growth, images, leak, speed
from benchmarks.elsewhere import Cost
from tests.conftest import ROOT, rows, write_csv
from tests.test_formats import brought, converted  # noqa: F401  (fixtures)

pytestmark = pytest.mark.slow
# Its licence forbids a copy in this repo.
HYMENOPTERA = ROOT.parent / "shared/data/hymenoptera/hymenoptera_256.zip"


def test_memory_of_validate_augment_and_split_hardly_grows_with_the_number_of_pictures(
    tmp_path: Path,
) -> None:
    few, many = (images.peaks(tmp_path / str(number), number, 64) for number in (100, 1500))
    assert few.keys() == many.keys() == {"validate", "augment", "split"}
    assert all(many[stage] - few[stage] <= 200 for stage in few), (few, many)


@pytest.mark.skipif(
    not HYMENOPTERA.is_file(),
    reason="the photographs of ants and bees are not here, and may not be copied into the project",
)
def test_a_linear_probe_gains_from_pretraining(tmp_path: Path, converted: dict[str, Path]) -> None:  # noqa: F811
    """As docs/own_data.md adds ants and bees, on a part of them.

    The same model with random weights stays near chance.
    """
    with zipfile.ZipFile(HYMENOPTERA) as archive:
        for part, number in (("train", 40), ("val", 25)):
            for label in ("ants", "bees"):
                names = sorted(
                    name
                    for name in archive.namelist()
                    if name.startswith(f"{part}/{label}/") and name.endswith(".jpg")
                )
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
    for name, some in (("train", texts[:450]), ("test", texts[450:])):
        pd.DataFrame({"text": some, "label": drawn.choice(["a", "b", "c"], len(some))}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )

    found = leak.leaked(
        tmp_path / "train.csv",
        tmp_path / "test.csv",
        {"x": "text", "y": "label"},
        copies=2,
        words=0.1,
    )

    naive, refit = (found[name]["nearest_neighbour"] for name in ("naive", "refit"))
    assert naive["held_out"] > 0.8  # a copy of it is in train
    assert naive["untouched"] < 0.5
    assert refit["held_out"] < 0.5


def test_a_case_trains_both_ways_on_the_same_rows_and_its_model_scores_them(
    tmp_path: Path, tiny_base: Path
) -> None:
    bench = speed.Bench(tmp_path, tmp_path)
    bench.lay_out()
    task = elsewhere.read_params()["tasks"]["questions"]
    write_csv(tmp_path / "data/raw/tiny/train.csv", rows())
    (tmp_path / "data/raw/minilm").symlink_to(tiny_base)
    files = [{"path": "train.csv", "part": None, "rows": None}]
    task["data"]["layout"] |= {"files": files, "columns": {"x": "text", "y": "label"}}
    task["data"]["source"], task["problem"]["labels"] = "tiny", None
    task["validate"] |= growth.LOOSE
    bench.write("tiny", task)
    bench.split("tiny")
    case = speed.Case("tiny", "tiny", (24, 96), epochs=1)
    measured = speed.Measured(case, len(bench.parts["tiny"]["train"]))

    speed.train(bench, measured)

    sizes = list(measured.costs["refit"])
    assert measured.costs.keys() == {"refit", "stock"}
    assert sizes == list(measured.costs["stock"])
    assert sizes == pytest.approx([24, 96], rel=0.2)  # copies come with their originals
    assert sizes[1] < measured.whole
    assert len(json.loads((tmp_path / "stock.json").read_text())) > 0
    (scored,) = speed.scored(bench, "tiny", 20, 1)
    assert scored.refit > 0 < scored.other


def test_a_row_and_the_whole_set_are_told_from_two_sizes() -> None:
    measured = speed.Measured(speed.Case("any", "any", (100, 300)), whole=1100)
    measured.costs = {
        # 5 s and 10 ms a row; 6 s and 10 ms.
        "refit": {
            100: [Cost(6, 6), Cost(7, 7)],
            300: [Cost(8, 8), Cost(9, 9)],
        },
        # 4 s and 40 ms a row.
        "stock": {
            100: [Cost(8, 8), Cost(8, 8)],
            300: [Cost(16, 12), Cost(16, 12)],
        },
    }
    row, whole = measured.figures()
    assert (row.refit, row.other, row.ratio, row.by_cpu, row.met) == (10, 40, 0.25, 0.5, True)
    assert (whole.refit, whole.other) == (16.5, 48)
    assert (whole.low, whole.high) == (16 / 48, 17 / 48)


def test_thinned_rows_hold_every_label_and_the_copies_of_what_is_kept() -> None:
    ids = [f"{i:03}" for i in range(100)]
    originals = pd.DataFrame(
        {"id": ids, "source_id": ids, "y": [["rare"] if i == 99 else ["often"] for i in range(100)]}
    )
    copies = originals.assign(id=originals["id"] + "+1")
    kept = speed.thinned(pd.concat([originals, copies], ignore_index=True), 0.1)
    assert len(kept) == 22
    assert kept["id"].isin([*ids[:10], "099", *(f"{i}+1" for i in [*ids[:10], "099"])]).all()


def test_exponents_are_of_large_sizes_and_know_what_the_start_costs() -> None:
    costs = {1_000: 5.1, 10_000: 6, 100_000: 15, 1_000_000: 105}  # 5 s and .1 ms a row
    (found,) = growth.exponents(
        [
            {"stage": "any", "rows": n, "cpu_seconds": of, "peak_mib": n // 1000}
            for n, of in costs.items()
        ]
    )
    assert found["fitted"] == 0.62
    assert found["beyond_start"] == 1.0
    assert found["peak_mib"] == 1000
