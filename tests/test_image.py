"""Pictures: read by content, looked at once, altered, trained on, judged, predicted for.

Any number of workers alters them alike.
"""

import hashlib
import inspect
import json
import os
import random
import shutil
import sys
import warnings
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.champion import load
from stages.commands import check
from stages.contract import draws, manifest, plugins, settings
from stages.contract.errors import DataError, ModelError, ParamsError
from stages.layouts import folders
from stages.modalities.image import pictures
from stages.models import scoring
from stages.params.augment import Augment
from stages.params.image import Albumentations, ImageModality
from stages.registry import serving
from tests.conftest import LEARNS, ROOT, Project, flows, make_project

image = plugins.modality("image")

REFIT = str(Path(sys.executable).with_name("refit"))
SETTINGS = ImageModality("image", (16, 200), 40_000, (16, 200), 32, 32, ("as_is",))
FLIP = Albumentations("albumentations", "HorizontalFlip", {"p": 1.0})
LIGHT = Albumentations("albumentations", "RandomBrightnessContrast", {"p": 1.0})


def draw_picture(label: str, number: int) -> np.ndarray[Any, Any]:
    """Return a noisy picture whose main colour gives its label; no two look alike."""
    draw = np.random.default_rng(
        hashlib.sha256(f"{label}{number}".encode()).digest()[0] + 256 * number
    )
    rgb = cv2.resize(
        draw.integers(0, 160, (6, 6, 3), dtype=np.uint8), (48, 40), interpolation=cv2.INTER_CUBIC
    )
    rgb[..., ("red", "green", "blue").index(label)] |= 0xC0
    return rgb


def write_pictures(
    folder: Path, number: int = 60, labels: tuple[str, ...] = ("red", "blue")
) -> Path:
    """Write a folder for each label and a PNG for each picture."""
    for label in labels:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            pictures.write(draw_picture(label, i), folder / label / f"{i}.png")
    return folder


def block() -> dict[str, Any]:
    """Return a complete task over small pictures: the repo's own, made small."""
    task: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")["tasks"]["solar_cells"]
    task["base"] = (
        "tiny_bert"  # the folder of conftest's project; it holds a model of pictures here
    )
    task["modality"] |= {
        "sides": [16, 200],
        "max_pixels": 40000,
        "median_side": [16, 200],
        "shorter_side": 32,
        "crop": 32,
        "views": ["as_is", "mirrored"],
    }
    task["problem"]["labels"] = None
    task["data"] = {
        "source": "colours",
        "encoding": "utf-8",
        "layout": {
            "name": "folders",
            "folders": [{"path": ".", "part": None}],
            "suffixes": [".png", ".jpg"],
        },
    }
    task["compute"] = {
        "threads": 1,
        "dtype": "float32",
        "memory_format": "channels_last",
        "batch_size": 32,
    }
    task["validate"] |= {
        "min_rows": 20,
        "min_rows_per_label": 5,
        "max_bad_fraction": 0.2,
        "max_label_ratio": 5.0,
    }
    task["validate"]["label_distribution"] = {"name": "uniform", "max_kl": 0.5}
    task["validate"]["domain"] |= {"profile": "unknown", "run_base": False}
    task["augment"] |= {"share": 0.5, "copies": 2, "on_the_fly": True}
    task["split"] |= {"validation": 0.2, "test": 0.3}
    task["finetune"] |= LEARNS
    task["evaluate"]["baselines"] = [{"name": "majority"}]
    task["register"]["gates"] = [
        {"name": "beats_baseline", "margin": 0.0, "margins": {}, "alpha": 0.10}
    ]
    return task


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a real, tiny ResNet of 1,000 classes, and its image processor.

    Its weights are random, from seed 0.
    """
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("resnet")
    shape = {
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 2],
        "layer_type": "basic",
        "num_labels": 1000,
    }
    ResNetForImageClassification(ResNetConfig(**shape)).save_pretrained(folder)
    stated = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "rescale_factor": 1 / 255,
        "do_rescale": True,
        "do_normalize": True,
    }
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "BitImageProcessor", **stated})
    )
    return folder


def make(root: Path, base: Path, task: dict[str, Any] | None = None) -> Project:
    """Make a project with one task `tiny` over pictures."""
    write_pictures(root / "data/raw/colours")
    project = make_project(root, base, {"tiny": task or block()})
    project.run("dvc", "add", "-q", "data/raw/colours")
    return project


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, tiny_resnet: Path) -> Project:
    return make(tmp_path_factory.mktemp("fresh") / "project", tiny_resnet)


@pytest.fixture
def project(tmp_path: Path, fresh: Project) -> Project:
    return fresh.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, fresh: Project) -> Project:
    return fresh.copy(tmp_path_factory.mktemp("done") / "project").through()


def read(project: Project, name: str) -> Any:
    return json.loads((project.root / name).read_text())


# ---- the whole -----------------------------------------------------------------------------------


def test_pictures_go_from_a_folder_to_a_registered_champion(done: Project) -> None:
    assert read(done, "data/register/tiny/decision.json")["outcome"] == "promote"
    assert read(done, "data/evaluate/tiny/metrics.json")["macro_f1"] > 0.9
    assert (done.root / "data/augment/tiny/preview/contact_sheet.png").stat().st_size > 5000
    assert "up to date" in done.repro().stdout


def test_a_second_run_gives_the_same_weights(done: Project, tmp_path: Path) -> None:
    again = done.copy(tmp_path / "again")
    for stage in ("validate", "augment", "split", "finetune"):
        again.stage(stage)
    assert (
        read(again, "data/finetune/tiny/model.json")["sha256"]
        == read(done, "data/finetune/tiny/model.json")["sha256"]
    )


def test_held_out_parts_hold_originals_only(done: Project) -> None:
    for part in ("validation", "test"):
        rows = manifest.read(done.root / f"data/split/tiny/{part}.parquet")
        assert (rows["id"] == rows["source_id"]).all()
        assert rows["x"].str.startswith("raw/colours/").all()
    train = manifest.read(done.root / "data/split/tiny/train.parquet")
    assert train["x"].str.startswith("augment/tiny/files/copies.zip/").sum() > 20


def packed(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_copies_are_the_same_bytes_with_one_worker_and_with_two(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done.root)
    cores = os.sched_getaffinity(0)
    assert len(cores) > 1, "this machine cannot show it"
    task = settings.load().tasks["tiny"]
    rows = manifest.read(Path("data/validate/tiny/manifest.parquet"))
    made = list[Any]()
    try:
        for some in ({min(cores)}, cores):
            os.sched_setaffinity(0, some)
            into = tmp_path / str(len(some))
            into.mkdir()
            copies = image.altering.alter(rows, task.augment, task.modality, into, "below")  # pyright: ignore
            made.append((copies.to_json(), (into / image.altering.COPIES).read_bytes()))
    finally:
        os.sched_setaffinity(0, cores)
    assert made[0] == made[1]
    own, all_of_them = (
        packed(Path("data/augment/tiny/files") / image.altering.COPIES),
        packed(into / image.altering.COPIES),
    )
    assert len(own) > 20 and own.items() <= all_of_them.items(), (
        "the stage's own, of train rows alone, are these"
    )


def test_a_champion_of_pictures_is_asked_for_files_from_python_and_from_mlflow(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refit takes the mean over its views, which no pipeline of transformers does."""
    import mlflow

    monkeypatch.chdir(done.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{done.root}/mlflow.db")
    test = manifest.read(Path("data/split/tiny/test.parquet"))["x"].head(5)
    files = [Path("data", x) for x in test]
    champion = load("tiny", serving.portable())
    ours = champion.predict(files, probabilities=True)
    of_bytes = champion.predict([path.read_bytes() for path in files], probabilities=True)
    pd.testing.assert_frame_equal(ours, of_bytes)
    asked = mlflow.pyfunc.load_model("models:/tiny@champion")
    table = pd.DataFrame({"file": [path.read_bytes() for path in files]})
    found = asked.predict(table, params={"probabilities": True})
    assert found["predicted"].tolist() == ours["predicted"].tolist()
    assert found["confidence"].tolist() == pytest.approx(ours["confidence"].tolist(), abs=1e-5)
    assert asked.predict(asked.input_example)["predicted"][0] in champion.labels
    assert champion.predict([Path("gone.png")])["code"].tolist() == ["missing_file"]
    with pytest.raises(DataError, match="predicts for files; give each as a Path or as bytes"):
        champion.predict(["/etc/hostname"])
    for odd in (None, 3, bytearray(b"x")):
        with pytest.raises(DataError, match="give each as a Path or as bytes"):
            champion.predict([odd])  # pyright: ignore
    refused = done.run(REFIT, "predict", "tiny", "-", ok=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "stdin: the model predicts for files" in refused.stderr
    flavours = asked.metadata.flavors
    several = settings.load().tasks["tiny"].modality.views != ("as_is",)  # pyright: ignore
    assert ("transformers" in flavours) is not several


@pytest.mark.slow
def test_refit_predict_labels_a_folder_of_pictures_and_says_what_is_bad(
    done: Project, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "new", 5)
    (tmp_path / "new/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done.run(
        REFIT, "predict", "tiny", str(tmp_path / "new"), "--out", str(tmp_path / "out.parquet")
    )
    rows = pd.read_parquet(tmp_path / "out.parquet").set_index("origin")
    assert pd.isna(rows.loc["broken.png", "predicted"])
    assert rows.loc["broken.png", "code"] is not None
    good = rows.drop("broken.png")
    assert (good["predicted"] == good.index.str.partition("/").get_level_values(0)).mean() > 0.8
    one = done.run(
        REFIT,
        "predict",
        "tiny",
        str(tmp_path / "new/red/0.png"),
        "--out",
        str(tmp_path / "one.jsonl"),
    )
    assert "1 rows" in one.stdout


@pytest.mark.slow
@pytest.mark.parametrize("tune", [
    {"name": "linear_probe"}, {"name": "freeze", "layers": 1},
    {"name": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["convolution"],
     "rslora": False, "dora": False},
])  # fmt: skip
def test_every_way_to_tune_learns_from_pictures(
    done: Project, tmp_path: Path, tune: dict[str, Any]
) -> None:
    project = done.copy(tmp_path / "project")
    project.params(
        lambda p: p["tasks"]["tiny"]["finetune"].update(
            tune=tune, head={"name": "probe", "c": [0.1, 1.0]}, epochs=4
        )
    )
    for stage in ("finetune", "export", "evaluate"):
        project.stage(stage)
    assert read(project, "data/evaluate/tiny/metrics.json")["macro_f1"] > 0.8


# ---- bad input -----------------------------------------------------------------------------------


def test_a_bad_picture_costs_one_row_and_junk_none(project: Project) -> None:
    folder = project.root / "data/raw/colours/red"
    good = (folder / "1.png").read_bytes()
    bad = {
        "empty.png": b"",
        "cut.png": good[: len(good) // 2],
        "text.png": b"no picture at all",
        "notes.txt": b"what is this",
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    pictures.write(np.zeros((4, 4, 3), np.uint8), folder / "small.png")
    pictures.write(np.zeros((300, 300, 3), np.uint8), folder / "large.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "out.png").symlink_to("/etc/hostname")
    for name in (".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    (folder / ".ipynb_checkpoints").mkdir()
    shutil.copy(folder / "1.png", folder / ".ipynb_checkpoints/1.png")
    said = project.stage("validate").stdout
    quarantined = pd.read_csv(
        project.root / "data/validate/tiny/quarantine.csv", dtype=str
    ).set_index("origin")["code"]
    assert (
        quarantined.index.str.rpartition("/")
        .get_level_values(2)
        .isin([*bad, "small.png", "large.png", "pipe.png", "out.png"])
        .all()
    )
    assert len(quarantined) == 8
    assert quarantined["red/small.png"] == "too_small"
    assert quarantined["red/large.png"] == "too_large"
    assert {quarantined["red/pipe.png"], quarantined["red/out.png"]} == {"not_regular"}
    assert "3 junk files skipped" in said
    assert "8 in quarantine" in said


@pytest.mark.parametrize(("harm", "words"), [
    (lambda folder: (folder / "green").mkdir(), ("folder(s) without a file: green",)),
    (lambda folder: write_pictures(folder, 2, ("green",)), ("green", "2", "5")),
    (lambda folder: (folder / "red").rename(folder / "Blue "),
     ("'Blue '", "'blue'", "look like one")),
    (lambda folder: [(folder / f"red/{i}.png").write_bytes(b"") for i in range(40)],
     ("40 of 120 rows are bad", "20.0%")),
    (lambda folder: [shutil.copy(folder / "red/0.png", folder / f"red/copy{i}.png")
                     for i in range(20)], ("21 of 140 rows are alike", "5.0%")),
])  # fmt: skip
def test_a_bad_set_stops_in_validate_and_says_what_where_and_how_many(
    project: Project, harm: Any, words: tuple[str, ...]
) -> None:
    harm(project.root / "data/raw/colours")
    failed = project.stage("validate", ok=False)
    assert failed.returncode == 2
    assert len(failed.stderr.splitlines()) == 1
    for word in words:
        assert word in failed.stderr


def test_copies_of_another_size_or_encoding_come_into_one_group_and_conflicts_are_told(
    project: Project,
) -> None:
    folder = project.root / "data/raw/colours"
    rgb = draw_picture("red", 0)
    pictures.write(
        cv2.resize(rgb, (96, 80), interpolation=cv2.INTER_CUBIC), folder / "red/larger.png"
    )
    cv2.imwrite(str(folder / "red/lossy.jpg"), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    pictures.write(rgb[:, ::-1].copy(), folder / "red/mirrored.png")
    # Equal content, another label: both go.
    pictures.write(draw_picture("blue", 0), folder / "red/equal.png")
    cv2.imwrite(
        str(folder / "red/near.jpg"),
        draw_picture("blue", 1)[..., ::-1],
        [cv2.IMWRITE_JPEG_QUALITY, 90],
    )
    project.stage("validate")
    rows = manifest.read(project.root / "data/validate/tiny/manifest.parquet").set_index("origin")
    assert rows.loc[["red/0.png", "red/larger.png", "red/lossy.jpg"], "group"].nunique() == 1
    assert rows["group"].value_counts().iloc[:2].tolist() == [3, 2], "no other pictures are alike"
    quarantined = pd.read_csv(project.root / "data/validate/tiny/quarantine.csv", dtype=str)
    assert sorted(quarantined["origin"]) == ["blue/0.png", "red/equal.png"]
    (mixed,) = read(project, "data/validate/tiny/findings.json")[
        "near_duplicates_with_different_labels"
    ]
    assert sorted(mixed["origins"]) == ["blue/1.png", "red/near.jpg"]


def test_the_path_of_a_row_may_not_leave_the_data_set(tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "source", 2)
    pictures.write(draw_picture("red", 9), tmp_path / "secret.png")
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(source / "pipe.png")
    cells = pd.Series(
        [
            "red/0.png",
            "red/9.png",
            "../secret.png",
            str(tmp_path / "secret.png"),
            "link.png",
            "pipe.png",
            "red",
            "a" * 5000,
            "",
        ]
    )
    found = image.reading.cite(cells, source, source)
    assert found["code"].tolist() == [
        None,
        "missing_file",
        "outside",
        "outside",
        "not_regular",
        "not_regular",
        "not_regular",
        "missing_file",
        "empty",
    ]
    assert all(len(reason) < 200 for reason in found["reason"].dropna())


def test_a_table_that_lists_files_is_read(tmp_path: Path, tiny_resnet: Path) -> None:
    root = tmp_path / "project"
    write_pictures(root / "data/raw/colours/pictures")
    lines = [f"pictures/{label}/{i}.png   {label}" for label in ("red", "blue") for i in range(60)]
    (root / "data/raw/colours/list.txt").write_text(
        "\n".join([*lines, "pictures/red/99.png   red"]) + "\n"
    )
    task = block()
    task["data"]["layout"] = {
        "name": "table", "files": [{"path": "list.txt", "part": None, "rows": None}],
        "columns": {"x": "file", "y": "label"},
        "dialect": {"delimiter": "spaces", "header": ["file", "label"]},
    }  # fmt: skip
    project = make_project(root, tiny_resnet, {"tiny": task})
    said = project.stage("validate").stdout
    assert said.startswith("validate tiny: 120 rows of 2 labels")
    assert (
        "list.txt:121,missing_file"
        in (project.root / "data/validate/tiny/quarantine.csv").read_text()
    )


def test_a_picture_that_is_another_than_validate_saw_stops_training(
    done: Project, tmp_path: Path
) -> None:
    project = done.copy(tmp_path / "project")
    row = (
        manifest.read(project.root / "data/split/tiny/train.parquet")
        .query("id == source_id")
        .iloc[0]
    )
    path = project.root / "data" / row["x"]
    path.chmod(0o644)
    pictures.write(draw_picture("green", 1), path)
    failed = project.stage("finetune", ok=False)
    assert failed.returncode == 2
    assert f"{row['x']}: its pixels are not those that validate saw" in failed.stderr


# ---- the modality's own --------------------------------------------------------------------------


WRONG = (
    ("NoSuchThing", {}, "has no transform NoSuchThing"),
    ("HorizontalFlip", {"q": 1}, "has no argument q; it takes p"),
    ("HorizontalFlip", {"p": 7}, "less than or equal to 1"),
    ("FDA", {"reference_images": ["/etc/passwd"]}, "needs more than the picture itself"),
    ("Lambda", {}, "needs more than the picture itself"),
    ("Compose", {}, "has no transform Compose"),
)


def test_a_wrong_transform_is_said_before_anything_runs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for transform, arguments, words in WRONG:
        (fault,) = image.altering.faults((Albumentations("albumentations", transform, arguments),))
        assert words in fault
    monkeypatch.chdir(project.root)

    def alter(document: Any) -> None:
        task = document["tasks"]["tiny"]
        for section in (task["augment"], task["evaluate"]["robustness"]):
            section["transforms"] = [
                {"name": "albumentations", "transform": "HorizontalFlip", "arguments": {"p": 7}}
            ]

    project.params(alter)
    wrong = [found for found in check.check() if not found.ok]
    assert [of.what for of in wrong] == ["tasks.tiny.augment", "tasks.tiny.evaluate.robustness"]
    assert all("less than or equal to 1" in of.fact for of in wrong)


def test_every_transform_of_albumentations_is_taken_or_refused_in_one_line() -> None:
    import albumentations

    names = [
        name
        for name, of in inspect.getmembers(albumentations, inspect.isclass)
        if issubclass(of, albumentations.BasicTransform)
    ]
    refused = image.altering.faults(
        tuple(Albumentations("albumentations", name, {}) for name in names)
    )
    assert len(names) > 90
    assert len(refused) < len(names) / 3
    assert all("\n" not in line for line in refused)


def test_policies_that_threads_make_side_by_side_leave_the_filters_of_warnings_as_they_were() -> (
    None
):
    """Otherwise the next warning of any library would end the training."""
    augment = Augment(
        7,
        1.0,
        1,
        on_the_fly=True,
        transforms=(Albumentations("albumentations", "Affine", {"shear": [-5, 5]}),) * 5,
    )
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: image.altering.Policy(augment), range(64)))
    assert warnings.filters == before


def test_a_text_s_transform_is_refused_for_pictures_and_the_other_way_round(tmp_path: Path) -> None:
    document = {"flows": flows(), "sources": {}, "tasks": {"tiny": block()}}
    (tmp_path / "data/raw/colours").mkdir(parents=True)
    (tmp_path / "data/raw/tiny_bert").mkdir(parents=True)
    path = tmp_path / "params.yaml"
    for change in (
        {"augment": {"transforms": [{"name": "keyboard", "words": 0.1, "characters": 0.1}]}},
        {"evaluate": {"baselines": [{"name": "tfidf_logistic", "ngrams": [1, 1], "c": 1.0}]}},
    ):
        ((section, values),) = change.items()
        changed = {
            **document,
            "tasks": {"tiny": {**block(), section: {**block()[section], **values}}},
        }
        YAML().dump(changed, path)
        with pytest.raises(ParamsError, match="not for the modality image"):
            settings.load(path)


def encoded(folder: Path, base: Path, augment: Augment | None = None) -> Any:
    files = sorted(folder.rglob("*.png"))
    samples = image.reading.read(pd.Series(files), "utf-8").assign(id=[p.stem for p in files])
    return (
        image.encoding.encode_anew(samples, image.encoding.processor(base), SETTINGS, augment)
        if augment
        else image.encoding.encode(samples, image.encoding.processor(base), SETTINGS)
    )


def test_pixel_values_are_the_model_s_own_normalisation_of_the_centre(
    tmp_path: Path, tiny_resnet: Path
) -> None:
    import torch

    rgb = np.zeros((32, 64, 3), np.uint8)
    rgb[:, 16:48] = (255, 102, 0)  # the centre square, already of the right size
    pictures.write(rgb, tmp_path / "a.png")
    rows = encoded(tmp_path, tiny_resnet)
    assert (rows[0]["pixel_values"].dtype, tuple(rows[0]["pixel_values"].shape)) == (
        torch.uint8,
        (32, 32, 3),
    )
    batch = image.encoding.collate(image.encoding.processor(tiny_resnet))(
        [rows[0] | {"labels": 2}, rows[0] | {"labels": 1}]
    )
    assert batch["labels"].tolist() == [2, 1] and batch["pixel_values"].is_contiguous(
        memory_format=torch.channels_last
    )
    values = batch["pixel_values"][0]
    assert values.shape == (3, 32, 32)
    assert (np.ptp(values.numpy().reshape(3, -1), axis=1) == 0).all()
    np.testing.assert_allclose(
        values[:, 0, 0], [(1 - 0.5) / 0.2, (0.4 - 0.4) / 0.2, (0 - 0.3) / 0.2], atol=1e-5
    )


def test_pictures_are_altered_anew_in_each_epoch_and_alike_in_the_same(
    tmp_path: Path, tiny_resnet: Path
) -> None:
    write_pictures(tmp_path, 3)
    rows = encoded(tmp_path, tiny_resnet, Augment(7, 0.0, 0, True, (LIGHT,)))
    first = rows[2]["pixel_values"].clone()
    assert (rows[2]["pixel_values"] == first).all()
    rows.set_epoch(1)
    assert (rows[2]["pixel_values"] != first).any()
    rows.set_epoch(0)
    assert (rows[2]["pixel_values"] == first).all()
    plain = encoded(tmp_path, tiny_resnet, Augment(7, 0.0, 0, False, (LIGHT,)))
    assert (plain[2]["pixel_values"] == encoded(tmp_path, tiny_resnet)[2]["pixel_values"]).all()


def test_a_batch_read_side_by_side_is_the_rows_one_by_one(
    tmp_path: Path, tiny_resnet: Path
) -> None:
    write_pictures(tmp_path, 9)
    rows = encoded(tmp_path, tiny_resnet, Augment(7, 0.0, 0, True, (LIGHT, FLIP)))
    assert len(rows) == 18
    for epoch in (0, 1):
        rows.set_epoch(epoch)
        together = rows.__getitems__(range(len(rows)))
        assert all(
            (row["pixel_values"] == rows[i]["pixel_values"]).all() for i, row in enumerate(together)
        )


def test_a_row_has_the_same_logits_in_views_seen_together_and_one_after_the_other(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done.root)
    compute = settings.load().tasks["tiny"].compute
    test = manifest.read(Path("data/split/tiny/test.parquet")).head(4)
    together, alone = (
        scoring.load(Path("data/finetune/tiny"), replace(compute, batch_size=size))
        for size in (8, 4)
    )
    seen = [scoring.score(of, test) for of in (together, alone)]
    assert np.allclose(*seen, atol=1e-5)
    assert not np.allclose(
        seen[0], scoring.outputs(together, together.encode(test), averaged=False), atol=1e-3
    )


def test_views_are_what_their_names_say() -> None:
    import torch

    batch = {"pixel_values": torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)}
    views = ImageModality(
        "image", (1, 9), 99, (1, 9), 4, 4, ("as_is", "mirrored", "upside_down", "half_turn")
    )
    plain, mirrored, down, turned = (
        view["pixel_values"] for view in image.encoding.views(batch, views)
    )
    assert (plain == batch["pixel_values"]).all()
    assert (mirrored[..., 0] == plain[..., 3]).all()
    assert (down[..., 0, :] == plain[..., 3, :]).all()
    assert (turned == torch.rot90(plain, 2, (2, 3))).all()


def test_a_mirrored_copy_is_mirrored_and_an_unchanged_one_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, 4)
    looked = image.reading.look(
        image.reading.read(pd.Series(sorted(tmp_path.rglob("*.png"))), "utf-8")["x"], SETTINGS
    )
    samples = pd.DataFrame({
        "id": [f"{i:04}" for i in range(len(looked))],
        "x": [p.as_posix() for p in sorted(tmp_path.rglob("*.png"))],
        "y": [["red"]] * len(looked), "content": draws.digest(looked["normal"]),
    })  # fmt: skip
    samples = samples.assign(
        source_id=samples["id"], group=samples["id"], given_part=None, origin="", meta="{}"
    )
    (tmp_path / "out").mkdir()
    copies = image.altering.alter(
        samples, Augment(7, 1.0, 1, False, (FLIP,)), SETTINGS, tmp_path / "out", "below"
    )
    assert len(copies) == len(samples)
    for original, copy in zip(samples.itertuples(), copies.itertuples(), strict=True):
        altered = pictures.read(
            tmp_path / "out" / Path(copy.x).relative_to("below"), pictures.ANY
        ).rgb
        assert (altered == pictures.read(Path(original.x), pictures.ANY).rgb[:, ::-1]).all()
    never = Albumentations("albumentations", "HorizontalFlip", {"p": 0.0})
    assert image.altering.alter(
        samples, Augment(7, 1.0, 1, False, (never,)), SETTINGS, tmp_path / "out", "below"
    ).empty


def test_a_policy_draws_alike_in_threads_and_in_processes(tmp_path: Path) -> None:
    write_pictures(tmp_path, 20)
    items = [
        (f"{i:03}", path.as_posix(), None) for i, path in enumerate(sorted(tmp_path.rglob("*.png")))
    ]
    policy = image.altering.Policy(Augment(7, 1.0, 1, False, (LIGHT, FLIP)))
    work = partial(image.altering._copy, policy=policy, seed=7, limits=pictures.ANY)
    one, two, three = (list(pictures.each(items, work, workers)) for workers in (1, 2, 3))
    assert one == two == three
    assert len(one) == 40


def test_a_base_model_without_an_image_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="image processor cannot be loaded"):
        image.encoding.processor(tmp_path)


@pytest.mark.slow
def test_refit_add_takes_a_folder_of_pictures_and_a_table_that_names_them(
    project: Project, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "mine", 30)
    (tmp_path / "mine/red/Thumbs.db").write_bytes(b"x")
    added = json.loads(
        project.run(
            REFIT, "add", "mine", str(tmp_path / "mine"), "--base", "tiny_bert", "--json"
        ).stdout
    )
    assert (added["rows"], added["bad"], added["labels"]) == (60, 0, {"blue": 30, "red": 30})
    assert "name: image" in added["block"]
    assert not (project.root / "data/raw/mine/red/Thumbs.db").exists()
    for stage in ("validate", "augment", "split", "finetune", "export", "evaluate"):
        project.stage(stage, "mine")
    listed = tmp_path / "listed"
    write_pictures(listed / "files", 30)
    for label in ("red", "blue"):
        for path in (listed / "files" / label).iterdir():
            path.rename(listed / "files" / f"{label}{path.name}")
        (listed / "files" / label).rmdir()
    names = [p.name for p in sorted((listed / "files").iterdir())]
    random.Random(1).shuffle(names)
    (listed / "labels.csv").write_text(
        "file,label\n"
        + "".join(f"files/{name},{'red' if name.startswith('red') else 'blue'}\n" for name in names)
    )
    added = json.loads(
        project.run(REFIT, "add", "listed", str(listed), "--base", "tiny_bert", "--json").stdout
    )
    assert added["rows"] == 60
    assert "columns:" in added["block"]
    project.stage("validate", "listed")
    assert (
        manifest.read(project.root / "data/validate/listed/manifest.parquet")["x"]
        .str.startswith("raw/listed/files/")
        .all()
    )


def test_what_systems_leave_in_a_folder_is_junk() -> None:
    assert all(
        folders.is_junk(Path(name))
        for name in (
            "a/.DS_Store",
            "__MACOSX/a/b.png",
            ".ipynb_checkpoints/x.png",
            "a/Thumbs.db",
            "desktop.ini",
        )
    )
    assert not folders.is_junk(Path("red/thumbs.png"))


def test_each_transform_of_a_policy_draws_for_itself() -> None:
    """A picture of four different corners shows which of three transforms were applied.

    All eight combinations occur, each as often as chance has it.
    """
    corners = np.zeros((2, 2, 3), np.uint8)
    corners[..., 0] = [[10, 20], [30, 40]]
    half = {"p": 0.5}
    policy = image.altering.Policy(
        Augment(
            7,
            1.0,
            1,
            True,
            tuple(
                Albumentations("albumentations", name, half)
                for name in ("HorizontalFlip", "VerticalFlip", "InvertImg")
            ),
        )
    )
    seen = Counter(
        policy(corners, draws.integer("anew", 7, str(i)))[..., 0].tobytes() for i in range(1600)
    )
    assert len(seen) == 8
    # Of 1,600 draws 200 are expected, with a deviation of 13.
    assert all(140 < number < 260 for number in seen.values())
    assert (policy(corners, 5) == policy(corners, 5)).all()
