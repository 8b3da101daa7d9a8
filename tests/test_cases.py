"""Situations that people met elsewhere, made anew.

Each ends well, or in one line that names the cause and what to do.
"""

import contextlib
import gzip
import json
import os
import shutil
import socket
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

from stages.checks import spelling, trial
from stages.commands import guess, pictures, proposal
from stages.commands import rows as new_rows
from stages.contract import escape, lines, plugins, receipts, tracked
from stages.contract.errors import ModelError, TableError
from stages.contract.learning import Learning
from stages.judging import gates
from stages.layouts import table
from stages.methods.tune import full
from stages.models import loading
from stages.params.augment import Augment, Transform
from stages.params.data import Dialect, Folders, Table
from stages.params.finetune import Full, LinearProbe, ProbeHead, RandomHead
from stages.params.image import Albumentations, ImageModality
from stages.params.problems import Classification
from stages.params.task import Task
from stages.params.text import (
    Case,
    Keyboard,
    Ocr,
    RandomCharacter,
    RandomWord,
    SplitWord,
    TextModality,
)
from stages.problems import classification
from stages.project import lineage
from stages.registry import registered
from tests.conftest import Project, block, rows, write_base, write_csv
from tests.test_add import add, line_of
from tests.test_methods import start

image = plugins.modality("image")
text = plugins.modality("text")

# ---- tables --------------------------------------------------------------------------------------


def task(**layout: Any) -> Task:
    of = block()
    of["data"]["layout"] |= layout
    return TypeAdapter(Task).validate_json(json.dumps(of))


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return path


SEMICOLONS: dict[str, Any] = {"delimiter": "semicolon", "header": None}


@pytest.mark.parametrize(
    ("content", "dialect", "column", "read"),
    [
        ("id;text\n1;a, b\n", None, None, "semicolon"),
        ("id;text\n1;a, b\n", SEMICOLONS, None, "semicolon"),
        ("text\tlabel\nan, old one\tx\n", None, None, "tab"),
        ("id,text\n1,a;b\n", SEMICOLONS, None, None),
        ("id;body\n1;a\n", None, "body", "semicolon"),
        ("sentence\na b\n", None, None, None),
        ('"id";"text"\n"1";"a, b"\n', None, None, "semicolon"),
        ('"id";"text"\n"1";"a, b"\n', SEMICOLONS, None, "semicolon"),
    ],
)
def test_new_rows_are_read_by_the_column_that_the_header_has_however_it_is_parted(
    tmp_path: Path, content: str, dialect: Any, column: str | None, read: str | None
) -> None:
    source, of = write(tmp_path / "new.csv", content), task(dialect=dialect)
    found = new_rows.reading(source, column, of)
    assert found.dialect == (Dialect(read, None) if read else None)  # pyright: ignore[reportArgumentType]
    x = new_rows.read(source, column, of, "text")["x"].tolist()
    assert x in (["a, b"], ["an, old one"], ["a;b"], ["a"], ["a b"])
    assert f"'{found.column}'" in found.why


@pytest.mark.parametrize("header", ["id;body", "body\tlabel", "a|b"])
def test_a_header_that_looks_like_several_columns_is_not_taken_for_the_text(
    tmp_path: Path, header: str
) -> None:
    mark = next(mark for mark in ";\t|" if mark in header)
    with pytest.raises(
        TableError, match="which looks like several|cannot tell which column is the text"
    ):
        new_rows.reading(write(tmp_path / "new.csv", f"{header}\n1{mark}2\n"), None, task())


def test_a_first_line_that_is_a_text_is_no_name_of_a_column(tmp_path: Path) -> None:
    with pytest.raises(
        TableError,
        match=(
            "the only column is called 'my card is lost again', which looks like a text; "
            "put a line with a name above it"
        ),
    ):
        new_rows.reading(
            write(tmp_path / "new.csv", "my card is lost again\nand so is yours\n"),
            None,
            task(dialect=None),
        )


ODD: dict[str, Any] = {
    "year": pa.array([10_000_000] * 3, pa.int32()).cast(pa.date32()),
    "instant": pa.array([2**62] * 3, pa.timestamp("us")),
    "zone": pa.array([1] * 3, pa.timestamp("us", tz="Mars/Olympus")),
    "bytes": pa.array([b"a", b"\xff\xfe", b"c"]).view(pa.string()),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_parquet_file_with_values_that_python_has_not_is_one_line(
    tmp_path: Path, odd: str
) -> None:
    pq.write_table(
        pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "odd": ODD[odd]}),
        tmp_path / "odd.parquet",
    )
    for read in (
        lambda: layout(tmp_path),
        lambda: table.read_unlabelled(tmp_path / "odd.parquet", "text", "utf-8", None, text),
    ):
        with contextlib.suppress(TableError):
            read()


def layout(folder: Path, x: str | None = None, y: str | None = None) -> Table | Folders:
    return guess.layout(
        folder,
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()),
        x,
        y,
    )


def test_columns_without_a_name_are_nobody_s(tmp_path: Path) -> None:
    lines = [f"{['spam', 'ham'][i % 2]},some longer text of number {i},,," for i in range(40)]
    write(tmp_path / "spam.csv", "v1,v2,,,\n" + "\n".join(lines) + "\n")
    for named in ((None, None), ("v2", "v1")):
        found = layout(tmp_path, *named)
        assert isinstance(found, Table)
        assert (found.columns.x, found.columns.y) == ("v2", "v1")
        read = table.read(tmp_path, found, "utf-8", text)
        assert read["code"].isna().all()
        assert set(read["meta"]) == {"{}"}


def test_one_column_for_both_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "text,label\na,b\nc,d\n")
    with pytest.raises(TableError, match="is named as the text and as the label"):
        layout(tmp_path, "text", "text")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_labelled_table_of_another_dialect_is_added_as_it_is(tmp_path: Path, mark: str) -> None:
    write(
        tmp_path / "t.csv",
        mark.join(["text", "label"])
        + "\n"
        + "".join(f"words, and commas {i}{mark}{'ab'[i % 2]}\n" for i in range(30)),
    )
    found = layout(tmp_path)
    assert isinstance(found, Table)
    assert found.dialect == Dialect({";": "semicolon", "\t": "tab"}[mark], None)  # pyright: ignore[reportArgumentType]
    assert table.read(tmp_path, found, "utf-8", text)["y"].tolist() == ["a", "b"] * 15


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "1.0"],
        ["2.50", "2.5"],
        ["praise", "praise\u200b"],
        ["A b", "a B"],
        ["x", "x\u00ad"],
        ["-3.", "-3"],
        ["1", "+1"],
        ["10", "10.0"],
        [".5", "0.5"],
        ["bill-ing", "bill\u2013ing"],
    ],
)
def test_labels_that_look_like_one_are_said(labels: list[str]) -> None:
    assert "look like one" in spelling.clashes([*labels, "another"])[0]
    assert spelling.clashes([labels[0], "another", "0", "-2", "20"]) == []


def test_numbers_in_two_forms_are_refused_and_several_labels_are_learned_as_such(
    fresh: Project, tmp_path: Path
) -> None:
    project = fresh.copy(tmp_path / "project")
    write_csv(
        tmp_path / "nf/2024.csv",
        [{"text": f"{of['text']} {i}", "label": str(i % 3)} for i, of in enumerate(rows(90))],
    )
    write_csv(
        tmp_path / "nf/2025.csv",
        [
            {"text": f"{of['text']} {i}", "label": f"{i % 3}.0"}
            for i, of in enumerate(rows(90, seed=2))
        ],
    )
    assert "the labels '0' and '0.0' look like one" in line_of(
        add(project, "nf", str(tmp_path / "nf"), "--base", "tiny_bert", ok=False)
    )
    many = ["a,b", "a", "b", "c,a", "c", "b,c"]
    write_csv(
        tmp_path / "several.csv",
        [{"text": f"{of['text']} {i}", "label": many[i % 6]} for i, of in enumerate(rows(90))],
    )
    said = add(project, "several", str(tmp_path / "several.csv"), "--base", "tiny_bert").stdout
    assert "read: texts of column 'text', labels of column 'label' of several.csv" in said
    assert (
        "chosen: 45 of 90 labels look like several, parted by a comma (such as a,b): "
        "any number of labels is learned a row" in said
    )


ALTERING: list[Transform] = [
    *(RandomWord("random_word", action, 0.3) for action in ("crop", "delete", "swap")),
    *(RandomCharacter("random_character", action, 0.3, 0.3)
      for action in ("insert", "substitute", "swap", "delete")),
    Keyboard("keyboard", 0.3, 0.3), Ocr("ocr", 0.3, 0.3), SplitWord("split_word", 0.3),
    Case("case", "upper"),
]  # fmt: skip


@pytest.mark.parametrize(
    "transform", ALTERING, ids=lambda of: f"{of.name}_{getattr(of, 'action', '')}"
)
def test_a_text_that_cannot_be_altered_has_no_copy_and_stays_as_it_is(
    tiny_base: Path, transform: Transform
) -> None:
    x = ["one", "a", "two words", "three words here", "four of them now", "!", "好", "777820"]
    samples = pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(len(x))],
            "x": x,
            "y": [["a"]] * len(x),
            "content": None,
            "source_id": None,
        }
    )
    copies = text.altering.alter(
        samples,
        Augment(7, 1.0, 3, on_the_fly=False, transforms=(transform,)),
        TextModality("text", (1, 99), (1, 99), 64),
        Path(),
        "",
    )
    assert not set(copies["x"]) & set(x)
    altered = text.encoding.encode_altered(
        samples,
        text.encoding.processor(tiny_base),
        TextModality("text", (1, 99), (1, 99), 64),
        transform,
        7,
    )
    assert all(len(altered[i]["input_ids"]) > 2 for i in range(len(x))), (
        "no text became empty: more than its two marks is left"
    )


# ---- pictures ------------------------------------------------------------------------------------


def paint(path: Path, side: int = 40, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(list(path.name.encode()))
    Image.fromarray(drawn.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path, kind)


def test_a_picture_is_told_by_its_content_and_what_a_table_names_is_brought(tmp_path: Path) -> None:
    for label in ("round", "square"):
        paint(tmp_path / f"a/{label}/1.jfif", kind="JPEG")
        paint(tmp_path / f"a/{label}/2.pict", kind="PNG")
        write(tmp_path / f"a/{label}/notes.doc", "words")
    found = layout(tmp_path / "a")
    assert isinstance(found, Folders)
    assert found.suffixes == (".jfif", ".pict")
    assert guess.of_pictures(tmp_path / "a", found)
    for i in range(8):
        paint(tmp_path / f"b/batch{i % 4}/{i}.png")
    write(
        tmp_path / "b/labels.csv",
        "file,label\n"
        + "".join(f"batch{i % 4}/{i}.png,{'xy'[i // 4]}\n" for i in range(8))
        + "../outside.png,x\n",
    )
    paint(tmp_path / "outside.png")
    by_table = layout(tmp_path / "b")
    assert isinstance(by_table, Table)
    assert (by_table.columns.x, by_table.columns.y) == ("file", "label")
    assert pictures.named_by(tmp_path / "b", by_table, "utf-8") == sorted(
        Path(f"batch{i % 4}/{i}.png") for i in range(8)
    )


@pytest.mark.parametrize("cell", ["{}", " images/{}.png "])
def test_a_table_that_names_pictures_in_part_is_refused_and_absolute_paths_are_bad_rows(
    tmp_path: Path, cell: str
) -> None:
    for i in range(6):
        paint(tmp_path / f"images/{i}_a.png")
    write(
        tmp_path / "labels.csv",
        "id,label\n" + "".join(f"{cell.format(f'{i}_a')},{'xy'[i % 2]}\n" for i in range(6)),
    )
    with pytest.raises(TableError, match="column 'id' names pictures in part"):
        layout(tmp_path)
    cells = pd.Series([str(tmp_path / "images/0_a.png"), "images/0_a.png", " "])
    assert image.reading.cite(cells, tmp_path, tmp_path)["code"].tolist() == [
        "outside",
        None,
        "empty",
    ]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Normalize", {}), ("ToFloat", {}), ("RandomCrop", {"height": 4000, "width": 4000})],
)
def test_a_transform_that_leaves_no_picture_of_8_bits_is_refused(
    name: str, arguments: dict[str, Any]
) -> None:
    (said,) = image.altering.faults((Albumentations("albumentations", name, arguments),))
    assert "transforms.0" in said


def test_caps_hold_whatever_params_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cap is lowered, so that small inputs reach it."""
    monkeypatch.setattr(image.reading, "MOST_PIXELS", 10_000)
    paint(tmp_path / "large.png", 101)
    paint(tmp_path / "small.png", 7)
    paint(tmp_path / "fit.png", 100)
    everything = ImageModality("image", (1, 65_535), 2**28, (1, 65_535), 1, 1, ("as_is",))
    looked = image.reading.look(
        pd.Series([str(tmp_path / f"{name}.png") for name in ("large", "small", "fit")]), everything
    )
    assert looked["code"].tolist() == ["too_large", "too_small", None]
    monkeypatch.setattr(text.reading, "MOST_CHARACTERS", 50)
    anything = TextModality("text", (1, 2**31), (1, 2**31), 64)
    assert text.reading.look(pd.Series(["a" * 51, "a" * 50, "\u200b\u2060", "\u00ad"]), anything)[
        "code"
    ].tolist() == [
        "too_long",
        None,
        "too_short",
        "too_short",
    ]
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    with gzip.open(tmp_path / "bomb.csv.gz", "wt") as file:
        file.write("text,label\nfine,a\n" + "x" * 100_000 + ",b\n")
    with pytest.raises(TableError, match=r"bomb.csv.gz:3: a line of more than 1,000 characters"):
        layout(tmp_path)
    assert classification.read(pd.Series(["\u200b", "a"]), Classification("classification", None))[
        "code"
    ].tolist() == ["no_label", None]


# ---- base models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_a_base_that_names_foreign_code_is_refused(
    tiny_base: Path, tmp_path: Path, key: str
) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    config = tmp_path / "base/config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"text_config": {key: "someone/kernels"}})
    )
    with pytest.raises(
        ModelError, match=f"{key} names foreign code, someone/kernels, which is never run"
    ):
        loading.load(classification, tmp_path / "base", "text", ["a", "b"], new_head=True)


def test_a_tokenizer_of_sentencepiece_alone_is_said_with_what_makes_one_of_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    (tmp_path / "base/tokenizer.json").rename(tmp_path / "base/spm.model")
    with pytest.raises(
        ModelError,
        match=(
            r"its tokenizer is spm.model \(SentencePiece\); "
            r"make a tokenizer.json of it where sentencepiece is installed"
        ),
    ):
        text.encoding.processor(tmp_path / "base")


@pytest.mark.parametrize("odd", ["a token beyond the embeddings", "no token for what is unknown"])
def test_a_tokenizer_that_does_not_fit_its_base_is_found_before_work(
    tmp_path: Path, odd: str
) -> None:
    base = write_base(tmp_path / "base")
    if odd == "a token beyond the embeddings":
        tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        tokenizer.add_tokens(["quite new"])
    else:
        tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1}))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]",
            "model_max_length": 16,
        }
        (base / "tokenizer_config.json").write_text(json.dumps(settings))
        (base / "vocab.txt").unlink(missing_ok=True)
    tokenizer.save(str(base / "tokenizer.json"))
    with pytest.raises(ModelError, match="cannot be trained"):
        trial.require(base, text, classification, TextModality("text", (1, 99), (1, 99), 16))


def test_the_trial_holds_a_tokenizer_to_its_own_limit(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    settings = json.loads((base / "tokenizer_config.json").read_text()) | {"model_max_length": 8}
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        ModelError,
        match=(
            r"reads at most 8 tokens, and modality.max_tokens is 16.*"
            r"modality.max_tokens: 8 would do"
        ),
    ):
        trial.require(base, text, classification, TextModality("text", (1, 99), (1, 99), 16))


def test_a_base_for_several_labels_is_saved_as_one_for_one(tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (base / "config.json").write_text(
        json.dumps(
            json.loads((base / "config.json").read_text())
            | {"problem_type": "multi_label_classification"}
        )
    )
    loading.load(classification, base, "text", ["a", "b"], new_head=True)[0].save_pretrained(
        tmp_path / "saved"
    )
    assert (
        json.loads((tmp_path / "saved/config.json").read_text())["problem_type"]
        == "single_label_classification"
    )


def test_embeddings_that_a_base_has_not_cannot_stay() -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    with pytest.raises(
        ModelError,
        match="finetune.tune.embeddings: false, and the base model has no table of embeddings",
    ):
        full.prepare(
            start(ResNetForImageClassification(config), frozenset()),
            cast("Learning", None),
            Full("full", embeddings=False),
        )


def test_a_head_of_several_new_layers_begins_at_random(tmp_path: Path, tiny_base: Path) -> None:
    """RoBERTa's head has a layer of its own before its outputs: nothing pretrained reaches them."""
    base = write_base(tmp_path / "base")
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "pad_token_id": 1,
    }
    RobertaModel(
        RobertaConfig(vocab_size=size, max_position_embeddings=130, **shape)
    ).save_pretrained(base)
    of = task(dialect=None)
    probed = replace(
        of,
        finetune=replace(
            of.finetune, head=ProbeHead("probe", (1.0,)), tune=LinearProbe("linear_probe")
        ),
    )
    found = proposal.tried(probed, base)
    assert (found.finetune.head, found.finetune.tune) == (RandomHead("random"), Full("full", True))
    assert proposal.tried(probed, tiny_base) == probed


def test_the_head_that_a_base_brings_keeps_all_but_its_outputs(tmp_path: Path) -> None:
    """The head has as many labels as the task, but they are others."""
    base = write_base(tmp_path / "base")
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    small: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "pad_token_id": 0,
    }
    made = RobertaForSequenceClassification(RobertaConfig(vocab_size=size, num_labels=2, **small))
    made.save_pretrained(base)
    loaded, new = loading.load(classification, base, "text", ["a", "b"], new_head=True)
    assert new == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert torch.equal(loaded.classifier.dense.weight, made.classifier.dense.weight)
    assert not torch.equal(loaded.classifier.out_proj.weight, made.classifier.out_proj.weight)


# ---- what is written -----------------------------------------------------------------------------


def test_a_label_ends_no_page_and_true_is_no_number() -> None:
    assert "<" not in escape.cell("</script><script>alert(1)</script>")
    assert gates._number(True) is False
    assert gates._number(1) is True


# ---- MLflow, git and DVC -------------------------------------------------------------------------


@pytest.fixture
def moved(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that was moved from where it was made, with a champion, as the current folder."""
    project = finished.copy(tmp_path / "moved here")
    write_csv(project.root / "new.csv", rows(30, seed=9))
    monkeypatch.chdir(project.root)
    return project


def client() -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")


def decide_again(project: Project, ok: bool = True, **environment: str) -> Any:
    shutil.rmtree(project.root / "data/register/tiny")
    return project.stage("register", ok=ok, **environment)


@pytest.mark.slow
def test_a_project_that_was_moved_works_by_its_own_files_alone(
    moved: Project, finished: Project
) -> None:
    before = receipts.files(finished.root, ["mlruns"])
    assert "30 rows" in moved.run("refit", "predict", "tiny", "new.csv").stderr
    assert moved.run("refit", "drift", "tiny", "new.csv").returncode in (0, 1)
    assert "version 1: promote" in decide_again(moved).stdout
    assert receipts.files(finished.root, ["mlruns"]) == before, (
        "the place that it was copied from stays as it was"
    )
    run = client().get_run(registered.version("tiny", "1").run_id)
    assert run.info.artifact_uri.startswith(str(moved.root)), (
        "MLflow's page finds its artifacts too"
    )


def test_artifacts_that_are_gone_are_said_with_the_place_they_are_looked_for(
    moved: Project,
) -> None:
    assert registered.champion("tiny")
    (moved.root / "mlruns").rename(moved.root / "elsewhere")
    said = moved.run("refit", "predict", "tiny", "new.csv", ok=False)
    assert said.returncode == 2
    assert (
        "refit: tiny@1: the registry has lost its artifacts (nothing lies at "
        f"{moved.root}/mlruns/1/models/" in said.stderr
    )


@pytest.mark.slow
def test_an_experiment_that_was_deleted_is_said_before_training_and_by_check(
    moved: Project,
) -> None:
    experiment = client().get_experiment_by_name("tiny").experiment_id
    client().delete_experiment(experiment)
    for said in (
        moved.stage("finetune", ok=False),
        moved.run("refit", "check", ok=False),
        decide_again(moved, ok=False),
    ):
        assert (
            f"mlflow experiments restore --experiment-id {experiment}" in said.stdout + said.stderr
        )
        assert said.returncode in (1, 2)
    client().restore_experiment(experiment)
    assert "version 1: promote" in moved.stage("register").stdout


@pytest.mark.slow
def test_a_run_that_was_deleted_is_said_and_no_tag_is_half_written(moved: Project) -> None:
    version = registered.version("tiny", "1")
    client().delete_run(version.run_id)
    said = decide_again(moved, ok=False)
    assert said.returncode == 2
    assert f"mlflow runs restore --run-id {version.run_id}" in said.stderr
    assert registered.version("tiny", "1") == version
    client().restore_run(version.run_id)
    assert "version 1: promote" in moved.stage("register").stdout


@pytest.mark.slow
def test_a_folder_of_files_is_refused_before_training_and_by_check(
    moved: Project, tmp_path: Path
) -> None:
    address = f"file://{tmp_path}/fs"
    for said in (
        moved.stage("finetune", ok=False, MLFLOW_TRACKING_URI=address),
        moved.run("refit", "check", ok=False, MLFLOW_TRACKING_URI=address),
    ):
        assert "is a folder of files" in said.stdout + said.stderr
        assert said.returncode in (1, 2)


@pytest.mark.slow
def test_a_store_of_another_mlflow_is_said_with_the_command_that_mends_it(moved: Project) -> None:
    with contextlib.closing(sqlite3.connect("mlflow.db")) as stored, stored:
        stored.execute("UPDATE alembic_version SET version_num = '0'")
    said = line_of(moved.stage("finetune", ok=False))
    assert (
        f"its tables are of another MLflow; copy it, then say `mlflow db upgrade sqlite:///{moved.root}/mlflow.db`"
        in said
    )


@pytest.mark.slow
def test_a_run_that_another_tool_left_in_a_variable_is_not_ours(moved: Project) -> None:
    decide_again(moved, MLFLOW_RUN_ID="0123456789abcdef0123456789abcdef")
    moved.params(lambda params: params["tasks"]["tiny"]["finetune"].update(seed=5, epochs=1))
    stages = ("finetune", "export", "evaluate", "register")
    moved.through(*stages, MLFLOW_RUN_ID="0123456789abcdef0123456789abcdef")
    assert [of.number for of in registered.versions("tiny")] == [1, 2]


@pytest.mark.slow
def test_an_experiment_in_a_workspace_of_dvc_s_is_judged_by_the_project_s_registry(
    moved: Project,
) -> None:
    moved.run("git", "add", "-A")
    moved.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all")
    moved.run(
        "dvc",
        "exp",
        "run",
        "--temp",
        "-n",
        "t1",
        "-S",
        "tasks.tiny.finetune.seed=6",
        "-S",
        "tasks.tiny.finetune.epochs=1",
        "register@tiny",
    )
    assert [of.number for of in registered.versions("tiny")] == [1, 2]
    assert registered.version("tiny", "2").judged_against == "version_1"
    with registered.artifact(registered.version("tiny", "2"), "lineage/provenance.json") as kept:
        assert kept, "its artifacts outlive the workspace"
    moved.run(
        "dvc",
        "exp",
        "run",
        "--queue",
        "-n",
        "t2",
        "-S",
        "tasks.tiny.finetune.seed=7",
        "-S",
        "tasks.tiny.finetune.epochs=1",
        "register@tiny",
    )
    moved.run("dvc", "exp", "run", "--run-all")
    assert [of.number for of in registered.versions("tiny")] == [1, 2, 3]


@pytest.mark.slow
def test_where_git_refuses_the_commit_is_unknown_and_says_why(
    moved: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert len(lineage.commit().removesuffix("+changes")) == 40
    git = write(
        tmp_path / "bin/git",
        "#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '$PWD'\" >&2\n"
        "exit 128\n",
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}{os.pathsep}{os.environ['PATH']}")
    assert (
        lineage.commit()
        == f"unknown (git: fatal: detected dubious ownership in repository at '{moved.root}')"
    )
    decide_again(moved)
    assert json.loads((moved.root / "data/register/tiny/decision.json").read_text())["lineage"][
        "git_commit"
    ].startswith("unknown (git: fatal")
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(os.pathsep)[2])
    monkeypatch.chdir(tmp_path)
    assert lineage.commit() == "no commit"


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_cache_that_is_shared_or_linked_to_is_dvc_s_own(
    fresh: Project, tmp_path: Path, shared: bool
) -> None:
    project = fresh.copy(tmp_path / "project")
    if shared:
        shutil.move(project.root / ".dvc/cache", tmp_path / "cache")
        project.run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    project.run("dvc", "config", "--local", "cache.type", "symlink")
    shutil.rmtree(project.root / "data/raw/reviews")
    project.run("dvc", "checkout", "-q", "data/raw/reviews.dvc")
    assert (project.root / "data/raw/reviews/train.csv").is_symlink()
    project.stage("validate")
    assert "WRONG" not in project.run("refit", "check").stdout
    assert project.run("python", "-m", "stages.project.preflight").stdout == ""
    outside = write(tmp_path / "outside.csv", "text,label\n")
    (project.root / "data/raw/reviews/more.csv").symlink_to(outside)
    assert "is a link that leads outside" in line_of(
        project.run("python", "-m", "stages.project.preflight", ok=False)
    )


def flip(path: Path) -> None:
    """Flip a bit of an object in DVC's cache, which stays read-only."""
    mode, content = path.stat().st_mode, bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reviews/train.csv", "tiny_bert/model.safetensors"])
def test_a_flipped_bit_in_dvc_s_cache_is_found_before_it_is_learned_from(
    fresh: Project, tmp_path: Path, name: str
) -> None:
    project = fresh.copy(tmp_path / "project")
    md5 = tracked.md5(project.root / "data/raw" / name)
    flip(project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:])
    shutil.rmtree(project.root / "data/raw" / Path(name).parts[0])
    project.run("dvc", "checkout", "-q", "-f", f"data/raw/{Path(name).parts[0]}.dvc")
    said = project.repro("validate@tiny", ok=False)
    assert said.returncode == 255
    assert (
        f"refit: data/raw/{name}: its bytes are not those that "
        f"data/raw/{Path(name).parts[0]}.dvc tracks" in said.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["dangling", "itself", "not_utf8"])
def test_data_that_came_by_dvc_add_alone_is_refused_in_the_words_of_refit_add(
    fresh: Project, tmp_path: Path, what: str
) -> None:
    project = fresh.copy(tmp_path / "project")
    at = project.root / "data/raw/reviews"
    if what == "not_utf8":
        Path(os.fsdecode(os.fsencode(at) + b"/a\xff.csv")).write_text("x")
    else:
        (at / "link.csv").symlink_to("link.csv" if what == "itself" else "nothing.csv")
    words = "has a name that is not UTF-8" if what == "not_utf8" else "is a link that leads nowhere"
    assert words in line_of(project.stage("validate", ok=False))
    shutil.copytree(at, tmp_path / "in", symlinks=True)
    assert words in line_of(
        add(project, "mine", str(tmp_path / "in"), "--base", "tiny_bert", ok=False)
    )


@pytest.mark.slow
def test_a_server_that_never_answers_costs_status_one_wait(moved: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        said = moved.run(
            "refit",
            "status",
            MLFLOW_TRACKING_URI=f"http://user:canary@127.0.0.1:{silent.getsockname()[1]}",
        )
        assert time.monotonic() - began < 20
    assert "does not answer within 5 s" in said.stdout
    assert "canary" not in said.stdout + said.stderr


def test_three_rows_are_too_few_to_tell(moved: Project) -> None:
    write_csv(moved.root / "few.csv", rows(3))
    said = line_of(moved.run("refit", "drift", "tiny", "few.csv", ok=False))
    assert "cannot tell: 3 rows are too few to measure, 25 are needed" in said


def test_labels_and_lines_reach_a_terminal_of_ascii(moved: Project) -> None:
    said = moved.run("refit", "drift", "tiny", "new.csv", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert said.stdout.isascii()
    assert (
        "\\xe9"
        in moved.run(
            sys.executable,
            "-c",
            "from stages.contract import escape; escape.to_streams(); print('é')",
            PYTHONIOENCODING="ascii",
        ).stdout
    )
