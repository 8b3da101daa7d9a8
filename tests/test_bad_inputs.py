"""Bad inputs, met by the real DAG: one line names the place, and nothing is left behind."""

import csv
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import Project, rows, write_csv, write_texts

Table = list[dict[str, str]]


@pytest.fixture
def split_project(done: Project, tmp_path: Path) -> Project:
    """A test's own project in which the stages before finetune have run."""
    return done.copy(tmp_path / "project").forget("finetune", "export", "evaluate", "register")


def line_of(failed: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of ours on stderr; DVC may add its own."""
    assert failed.returncode
    ours = [line for line in failed.stderr.splitlines() if line.startswith("refit: ")]
    assert len(ours) == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    return ours[0]


def is_clean(project: Project, stage: str) -> None:
    """Require no outputs of the stage, no entry for it in dvc.lock, and no registered version."""
    left = [p for p in (project.root / "data" / stage / "tiny").rglob("*") if p.is_file()]
    assert left == []
    lock = project.root / "dvc.lock"
    assert not lock.exists() or f"{stage}@tiny" not in YAML(typ="safe").load(lock)["stages"]
    assert not (project.root / "mlflow.db").exists()


def refuses(project: Project, stage: str = "validate", **environment: str) -> str:
    said = line_of(project.stage(stage, ok=False, **environment))
    is_clean(project, stage)
    return said


def write(project: Project, content: str | Table) -> None:
    path = project.root / "data/raw/reviews/train.csv"
    path.unlink()
    path.write_text(content) if isinstance(content, str) else write_csv(path, content)


def quarantine(folder: Path) -> list[dict[str, str]]:
    with (folder / "quarantine.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_unknown_and_mistyped_settings_are_told_all_at_once(project: Project) -> None:
    def spoil(document: Any) -> None:
        task = document["tasks"]["tiny"]
        task["validate"]["min_row"] = 3
        task["finetune"]["epochs"] = "four"
        task["register"]["gates"][1]["metric"] = 1

    project.params(spoil)
    said = refuses(project)
    assert said.startswith("refit: params.yaml: 3 mistakes: ")
    for place in (
        "tasks.tiny.validate.min_row:",
        "tasks.tiny.finetune.epochs:",
        "tasks.tiny.register.gates.1.metric:",
    ):
        assert place in said


BAD_SETS: dict[str, tuple[Callable[[Table], str | Table], tuple[str, ...]]] = {
    "a missing column": (
        lambda t: [{"content": r["text"], "label": r["label"]} for r in t],
        ("train.csv", "'text'", "found: content, label", "layout.columns"),
    ),
    "an empty file": (lambda t: "", ("train.csv: is empty (0 bytes)",)),
    "a header alone": (lambda t: "text,label\n", ("train.csv: has a header and no data row",)),
    "one class only": (
        lambda t: [r | {"label": "praise"} for r in t],
        ("labels, number of rows", "observed 1"),
    ),
    "too few rows of a class": (
        lambda t: [r for r in t if r["label"] != "ask"] + [r for r in t if r["label"] == "ask"][:3],
        ("ask", "min_value 5"),
    ),
    "labels that look like one": (
        lambda t: [
            r | {"label": "Praise"} if r["label"] == "praise" and i % 2 else r
            for i, r in enumerate(t)
        ],
        ("1 thing(s) wrong", "the labels 'Praise' and 'praise' look like one"),
    ),
    "too many rows that say the same": (
        lambda t: [
            {"text": f"the MEAL{' ' * i} was good", "label": "praise"} if i < 13 else r
            for i, r in enumerate(t)
        ],
        ("1 thing(s) wrong", "13 of 240 rows are alike (first train.csv:2), at most 5.0% may be"),
    ),
    "bad rows above the ceiling": (
        lambda t: [r | {"text": ""} if i < 50 else r for i, r in enumerate(t)],
        ("50 of 240 rows are bad (50 too_short; first train.csv:2: 0 characters", "at most 15.0%"),
    ),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_a_bad_set_stops_the_run_with_one_line(project: Project, case: str) -> None:
    spoil, facts = BAD_SETS[case]
    write(project, spoil(rows()))
    said = refuses(project)
    for fact in facts:
        assert fact in said


def test_rows_that_say_the_same_are_taken_up_to_their_ceiling_and_counted(project: Project) -> None:
    write(
        project,
        [
            {"text": f"the MEAL{' ' * i} was good", "label": "praise"} if i < 12 else r
            for i, r in enumerate(rows())
        ],
    )
    project.stage("validate")
    found = json.loads((project.root / "data/validate/tiny/findings.json").read_text())
    assert found["largest"] == {"rows": 12, "origins": [f"train.csv:{i}" for i in range(2, 14)]}
    assert found["rows_that_share_a_group"] >= 12
    assert found["near_duplicates_with_different_labels"] == []


def test_junk_in_a_folder_a_label_is_no_bad_row_and_a_label_without_a_text_is_named(
    project: Project,
) -> None:
    folder = write_texts(project.root / "data/raw/folders", 90)
    project.params(lambda p: p["tasks"]["tiny"]["data"].update(
        source="folders",
        layout={"name": "folders", "folders": [{"path": ".", "part": None}], "suffixes": [".txt"]}
    ))  # fmt: skip
    for i in range(30):  # far more than bad rows may be
        (folder / f"ask/._{i}.txt").write_bytes(b"\xff")
    (folder / "praise/Thumbs.db").write_bytes(b"\xff")
    said = project.stage("validate").stdout
    assert "90 rows of 3 labels" in said and "31 junk files skipped, 0 in quarantine" in said
    skipped = json.loads((project.root / "data/validate/tiny/findings.json").read_text())["skipped"]
    assert len(skipped) == 31 and "praise/Thumbs.db" in skipped
    (folder / "spam").mkdir()
    (folder / "spam/.DS_Store").write_bytes(b"x")
    assert "folder(s) without a file: spam;" in line_of(project.stage("validate", ok=False))


def test_a_declared_label_without_rows_is_named(project: Project) -> None:
    names = {"praise": "praise", "blame": "blame", "ask": "ask", "spam": "spam"}
    project.params(lambda p: p["tasks"]["tiny"]["problem"].update(labels=names))
    said = refuses(project)
    assert "spam" in said


def test_all_that_is_wrong_with_a_set_is_told_at_once_and_kept(project: Project) -> None:
    table = [r | {"text": "ab"} if i < 50 else r for i, r in enumerate(rows())]
    write(
        project,
        [r for r in table if r["label"] != "ask"] + [r for r in table if r["label"] == "ask"][-3:],
    )
    said = refuses(project)
    assert "rows are bad" in said and "ask" in said
    refused = project.root / "data/.work/validate/tiny/refused"
    assert str(refused.relative_to(project.root)) in said
    assert {row["code"] for row in quarantine(refused)} == {"too_short"}
    assert any(
        not verdict["success"]
        for verdict in json.loads((refused / "expectations.json").read_text())
    )


@pytest.mark.slow
def test_dvc_stops_at_the_stage_that_refuses_and_keeps_no_entry_of_it(project: Project) -> None:
    project.repro("validate@tiny")
    good = (project.root / "data/raw/reviews.dvc").read_text()
    write(project, [r | {"label": "praise"} for r in rows()])
    failed = project.repro(ok=False)
    assert "labels, number of rows" in line_of(failed)
    assert "failed to reproduce 'validate@tiny'" in failed.stderr
    assert not (project.root / "data/augment").exists() or not list(
        (project.root / "data/augment").rglob("*.parquet")
    )
    assert [p for p in (project.root / "data/validate/tiny").rglob("*") if p.is_file()] == []
    lock = YAML(typ="safe").load(project.root / "dvc.lock")["stages"]
    assert "augment@tiny" not in lock
    raw = next(d for d in lock["validate@tiny"]["deps"] if d["path"] == "data/raw/reviews")
    assert raw["md5"] in good  # the entry is the one of the good data
    assert not (project.root / "mlflow.db").exists()


def test_bad_rows_below_the_ceiling_cost_themselves_alone(project: Project) -> None:
    table = rows()
    table[3]["text"] = "=1"  # too short, and a formula
    table[5]["text"] = "+2"
    table[7]["text"] = "@x"
    table[9]["text"] = "-1"
    table[11]["label"] = ""
    table[13] = table[12] | {"label": "ask" if table[12]["label"] != "ask" else "blame"}
    write(project, table)
    said = project.stage("validate").stdout
    assert "7 in quarantine" in said
    found = {row["origin"]: row for row in quarantine(project.root / "data/validate/tiny")}
    assert {origin: row["code"] for origin, row in found.items()} == {
        "train.csv:5": "too_short",
        "train.csv:7": "too_short",
        "train.csv:9": "too_short",
        "train.csv:11": "too_short",
        "train.csv:13": "no_label",
        "train.csv:14": "conflicting_labels",
        "train.csv:15": "conflicting_labels",
    }
    assert all(row["reason"] for row in found.values())
    assert [found[f"train.csv:{n}"]["extract"] for n in (5, 7, 9, 11)] == [
        "'=1",
        "'+2",
        "'@x",
        "'-1",
    ]
    import pandas as pd

    kept = pd.read_parquet(project.root / "data/validate/tiny/manifest.parquet")
    assert len(kept) == 233
    assert not set(kept["origin"]) & set(found)


def test_a_pickled_base_model_is_never_opened(split_project: Project) -> None:
    weights = split_project.root / "data/raw/tiny_bert/model.safetensors"
    weights.unlink()
    (weights.parent / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    said = refuses(split_project, "finetune")
    assert (
        "data/raw/tiny_bert: needs config.json and *.safetensors" in said
        and "pytorch_model.bin" in said
    )
    assert not (split_project.root / "pwned").exists()


def test_a_truncated_base_model_is_one_line(split_project: Project) -> None:
    weights = split_project.root / "data/raw/tiny_bert/model.safetensors"
    held = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(held[: len(held) // 2])
    assert "data/raw/tiny_bert" in refuses(split_project, "finetune")


def test_a_tracking_server_that_does_not_answer_stops_finetune_before_it_trains(
    split_project: Project,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        said = refuses(split_project, "finetune", MLFLOW_TRACKING_URI=address)
        assert time.monotonic() - began < 15
    assert f"{address} does not answer" in said
    assert not list((split_project.root / "data/.work/finetune").rglob("checkpoint*"))
