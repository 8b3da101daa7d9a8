"""refit predict: every kind of input, a row for each bad one, verified bytes, nothing overwritten.

The bytes are the model's.
"""

import gzip
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.commands.predict import Asked, Result, predict
from stages.contract import manifest, settings, store
from stages.contract.errors import (
    DataError,
    ModelError,
    ParamsError,
    RefitError,
    RegistryError,
    TableError,
)
from stages.models import scoring
from tests.conftest import Project, flows, rows, write_csv

FOLDER = "data/export/tiny"
TEXTS = [row["text"] for row in rows(40, seed=5)]
KINDS = (
    "a.csv",
    "a.CSV.gz",
    "a.tsv",
    "a.tsv.gz",
    "a.jsonl",
    "a.jsonl.gz",
    "a.ndjson",
    "a.parquet",
    "a.txt",
    "a.txt.gz",
)
COLUMNS = ["origin", "x", "predicted", "confidence", "code", "reason", "meta"]


@pytest.fixture(autouse=True)
def here(done: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(done.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{done.root}/mlflow.db")
    return done


def run(
    source: Path,
    model: str = FOLDER,
    out: Path | None = None,
    column: str | None = None,
    log: bool = False,
    force: bool = False,
) -> Result:
    out = out or source.with_name("out.parquet")
    return predict(model, Asked(source, column=column, out=out, log=log, force=force))


def predicted(source: Path, model: str = FOLDER, column: str | None = None) -> pd.DataFrame:
    return pd.read_parquet(run(source, model, column=column, force=True).out)


def write(path: Path, texts: list[str]) -> Path:
    """Write texts as a column `text`, in the format of the file's name."""
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pd.DataFrame({"text": texts}).to_parquet(path)
        return path
    lines = (
        [json.dumps({"text": text}) for text in texts]
        if "json" in kind
        else texts
        if kind == "txt"
        else ["text", *texts]
    )
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def codes(found: pd.DataFrame) -> list[str | None]:
    return [None if pd.isna(code) else code for code in found["code"]]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_input_gives_the_same_predictions_for_the_same_texts(
    tmp_path: Path, name: str
) -> None:
    found = predicted(write(tmp_path / name, TEXTS))
    straight = scoring.predict(
        Path(FOLDER), pd.DataFrame({"x": TEXTS}), settings.load().tasks["tiny"].compute
    )
    assert list(found.columns) == COLUMNS
    assert found["x"].tolist() == TEXTS
    assert found["predicted"].tolist() == straight["predicted"].tolist()
    assert found["confidence"].tolist() == straight["confidence"].tolist()
    first = 2 if "sv" in name.lower() else 1
    assert found["origin"].tolist() == [
        f"{name}:{line}" for line in range(first, len(TEXTS) + first)
    ]


def test_the_champion_predicts_for_the_test_rows_what_evaluate_said(tmp_path: Path) -> None:
    test = manifest.read(Path("data/split/tiny/test.parquet"))
    test.rename(columns={"x": "text"})[["id", "text"]].to_parquet(tmp_path / "test.parquet")
    found, said = (
        predicted(tmp_path / "test.parquet", "tiny"),
        pd.read_parquet("data/evaluate/tiny/predictions.parquet").set_index("id"),
    )
    said = said.loc[[json.loads(meta)["id"] for meta in found["meta"]]]
    assert found["predicted"].tolist() == said["candidate"].tolist()
    assert found["confidence"].tolist() == pytest.approx(said["confidence"].tolist(), abs=1e-6)


def test_the_champion_its_version_and_its_folder_are_one_model_and_nothing_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.csv", TEXTS)
    results = [run(source, model, force=True) for model in ("tiny", "tiny@1", FOLDER)]
    assert [found.model for found in results] == ["tiny@1", "tiny@1", FOLDER]
    decision = json.loads(Path("data/register/tiny/decision.json").read_text())
    assert {found.sha256 for found in results} == {decision["candidate"]["model_sha256"]}
    assert {(found.rows, found.bad, found.log) for found in results} == {(40, 0, None)}
    assert capfd.readouterr() == ("", "")


def test_rows_are_encoded_a_window_at_a_time_with_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples, compute = (
        pd.DataFrame({"x": TEXTS}, index=range(100, 140)),
        settings.load().tasks["tiny"].compute,
    )
    whole, done = scoring.predict(Path(FOLDER), samples, compute), []
    monkeypatch.setattr(scoring, "WINDOW", 7)
    found = scoring.predict(Path(FOLDER), samples, compute, progress=done.append)
    assert found.index.tolist() == whole.index.tolist()
    assert found["predicted"].tolist() == whole["predicted"].tolist()
    assert found["confidence"].tolist() == pytest.approx(whole["confidence"].tolist(), abs=1e-6)
    assert done == [7, 7, 7, 7, 7, 5]


# ---- rows ----------------------------------------------------------------------------------------


def test_a_bad_row_costs_one_row_and_says_why(tmp_path: Path) -> None:
    long = b"a " * 1000
    (tmp_path / "a.csv").write_bytes(
        b"text,n\na good room,1\nfew\nnu\0l,1\nb\xffd,1\n,1\n" + long + b",1\na bad room,2\n"
    )
    found = predicted(tmp_path / "a.csv")
    assert codes(found) == [
        None,
        "field_count",
        "nul_character",
        "not_utf8",
        "too_short",
        "too_long",
        None,
    ]
    assert found.loc[found["code"].notna(), ["predicted", "confidence"]].isna().all(axis=None)
    assert found.loc[found["code"].isna(), ["predicted", "confidence"]].notna().all(axis=None)
    assert found.loc[1, "reason"] == "1 fields where the header has 2"
    assert found["origin"].tolist() == [f"a.csv:{line}" for line in range(2, 9)]
    assert run(tmp_path / "a.csv", force=True).bad == 5

    (tmp_path / "a.jsonl").write_text(
        '{"text": "a good room"}\n{"text": null}\n[]\n{"text": ["a"]}\n{"no": "text"}\n'
        '{"text": "a\\ud800b"}\n'
    )
    assert codes(predicted(tmp_path / "a.jsonl")) == [
        None,
        "missing_value",
        "not_json",
        "missing_value",
        "missing_value",
        "not_utf8",
    ]
    (tmp_path / "a.txt").write_text("a good room\n\na bad room")
    assert codes(predicted(tmp_path / "a.txt")) == [None, "too_short", None]
    pd.DataFrame({"text": ["a good room", None]}).to_parquet(tmp_path / "a.parquet")
    assert codes(predicted(tmp_path / "a.parquet")) == [None, "missing_value"]


def test_a_file_of_bad_rows_alone_gives_rows_without_predictions(tmp_path: Path) -> None:
    found = predicted(write(tmp_path / "a.txt", ["", "\0"]))
    assert codes(found) == ["too_short", "nul_character"]
    assert found[["predicted", "confidence"]].isna().all(axis=None)


def test_the_settings_of_the_model_hold_and_not_those_of_today(
    tmp_path: Path, here: Project
) -> None:
    """A registered model is what it was.

    A limit that params.yaml has since changed does not move its predictions.
    """
    kept = (here.root / "params.yaml").read_bytes()
    here.params(lambda p: p["tasks"]["tiny"]["modality"].update(characters=[500, 600]))
    try:
        assert codes(predicted(write(tmp_path / "a.txt", TEXTS), "tiny")) == [None] * len(TEXTS)
    finally:
        (here.root / "params.yaml").write_bytes(kept)


# ---- columns -------------------------------------------------------------------------------------


def test_the_column_is_the_named_one_else_the_task_s_own_else_the_only_one(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    write_csv(source, [{"text": "a good room", "other": "a bad room"}])
    assert predicted(source)["x"].tolist() == ["a good room"]
    assert predicted(source, column="other")["x"].tolist() == ["a bad room"]
    assert json.loads(predicted(source, column="other")["meta"][0]) == {"text": "a good room"}
    write_csv(source, [{"other": "a bad room"}])
    assert predicted(source)["x"].tolist() == ["a bad room"]


@pytest.mark.parametrize(
    ("name", "content", "column", "fact"),
    [
        (
            "a.csv",
            "one,two\na,b\n",
            None,
            r"cannot tell which column is the text \(found: one, two\); name it: --text COLUMN",
        ),
        (
            "a.jsonl",
            '{"one": "a"}\n{"two": "a"}\n',
            None,
            r"cannot tell which column is the text \(found: one, two\)",
        ),
        (
            "a.csv",
            "one,two\na,b\n",
            "three",
            r"has no column 'three' \(found: one, two\); name it: --text COLUMN",
        ),
        ("a.csv", "text,text\na,b\n", None, "'text' occurs 2 times in the header"),
        (
            "a.jsonl",
            '{"one": "a"}\n',
            "two",
            r"has no column 'two' \(found: one\); name it: --text COLUMN",
        ),
        ("a.txt", "a\n", "two", r"has no column 'two' \(found: text\)"),
    ],
)
def test_a_column_that_cannot_be_told_names_those_found(
    tmp_path: Path, name: str, content: str, column: str | None, fact: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match=fact):
        run(tmp_path / name, column=column)


# ---- what is written -----------------------------------------------------------------------------


def test_jsonl_holds_what_parquet_holds_with_meta_as_an_object(tmp_path: Path) -> None:
    pd.DataFrame(
        {
            "text": ["a good room", "", "好 \u2028 /"],
            "n": [1.5, float("inf"), 2.0],
            "who": ["a", None, "c"],
        }
    ).to_parquet(tmp_path / "a.parquet")
    table = predicted(tmp_path / "a.parquet")
    lines = (
        run(tmp_path / "a.parquet", out=tmp_path / "out.jsonl").out.read_text("utf-8").split("\n")
    )
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines[:-1]]
    assert lines[-1] == ""
    assert [list(row) for row in found] == [COLUMNS] * 3
    for name in COLUMNS[:-1]:
        assert [row[name] for row in found] == [
            None if pd.isna(value) else value for value in table[name]
        ], name
    assert found[0]["meta"] == {"n": 1.5, "who": "a"}
    assert found[1]["meta"] == {"n": "Infinity", "who": None}
    assert found[1]["predicted"] is None


def test_without_a_name_rows_are_printed_and_no_file_is_made(tmp_path: Path, here: Project) -> None:
    source, before = write(tmp_path / "mine.csv.gz", TEXTS), sorted(here.root.iterdir())
    said = here.run("refit", "predict", FOLDER, str(source))
    printed = [json.loads(line) for line in said.stdout.splitlines()]
    assert [row["predicted"] for row in printed] == predicted(source)["predicted"].tolist()
    assert said.stderr.startswith(f"stdout: 40 rows by {FOLDER}, 0 of them bad")
    assert sorted(here.root.iterdir()) == before


def test_samples_and_stdin_are_predicted_for_like_a_table(tmp_path: Path, here: Project) -> None:
    named = here.run("refit", "predict", FOLDER, "--sample", TEXTS[0], "--sample", "")
    first, empty = (json.loads(line) for line in named.stdout.splitlines())
    assert (first["x"], first["predicted"]) == (
        TEXTS[0],
        predicted(write(tmp_path / "a.csv", TEXTS[:1]))["predicted"][0],
    )
    assert (empty["origin"], empty["code"], empty["predicted"]) == (
        "--sample 2",
        "too_short",
        None,
    )
    for kind in ("txt", "csv", "jsonl"):
        with write(tmp_path / f"a.{kind}", TEXTS).open("rb") as piped:
            told = subprocess.run(
                [sys.executable, "-m", "stages.cli", "predict", FOLDER, "-", "--stdin", kind],
                stdin=piped, capture_output=True, text=True, check=True, cwd=here.root,
            )  # fmt: skip
        rows = [json.loads(line) for line in told.stdout.splitlines()]
        assert [row["x"] for row in rows] == TEXTS
        assert rows[0]["origin"] == f"stdin.{kind}:{2 if kind == 'csv' else 1}"
    odd = here.run("refit", "predict", FOLDER, "--sample", "a \ud800", ok=False)
    assert odd.returncode == 0 and json.loads(odd.stdout)["code"] == "not_utf8"
    with pytest.raises(DataError, match="--text: names a column of INPUT"):
        predict(FOLDER, Asked(samples=("a",), column="text"))
    with pytest.raises(DataError, match="name either INPUT"):
        predict(FOLDER, Asked())
    with pytest.raises(DataError, match="name either INPUT"):
        predict(FOLDER, Asked(tmp_path / "a.csv", ("a",)))


def test_an_empty_stdin_is_one_line_and_a_reader_that_stops_is_none(
    tmp_path: Path, here: Project
) -> None:
    command = [sys.executable, "-m", "stages.cli", "predict", FOLDER]
    done = subprocess.run(
        [*command, "-"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        cwd=here.root,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert done.stderr.startswith("refit: stdin: is empty (0 bytes)")
    closed = subprocess.run(
        f"{shlex.join([*command, '-'])} <&-",
        shell=True, capture_output=True, text=True, check=False, cwd=here.root,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr.count("\n")) == (2, 1)
    assert "stdin: is closed" in closed.stderr
    source = write(tmp_path / "a.csv", TEXTS * 100)
    piped = subprocess.run(
        f"{shlex.join([*command, str(source)])} | head -1",
        shell=True, capture_output=True, text=True, check=True, cwd=here.root,
    )  # fmt: skip
    assert len(piped.stdout.splitlines()) == 1 and "Traceback" not in piped.stderr


def test_probabilities_are_a_column_a_label_in_every_format(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", [*TEXTS[:3], ""])
    names = ["probability ask", "probability blame", "probability praise"]
    for kind, read in (
        ("parquet", pd.read_parquet),
        ("csv", pd.read_csv),
        ("jsonl", lambda path: pd.read_json(path, lines=True)),
    ):
        out = tmp_path / f"out.{kind}"
        predict(FOLDER, Asked(source, out=out, probabilities=True))
        found = read(out)
        assert [name for name in found if name.startswith("probability")] == names
        assert found[names].iloc[:3].sum(axis=1).tolist() == pytest.approx([1, 1, 1])
        assert found[names].max(axis=1)[:3].tolist() == pytest.approx(
            found["confidence"][:3].tolist()
        )
        assert found[names].iloc[3].isna().all()


def test_csv_has_no_cell_that_a_spreadsheet_runs(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", ["=1+1 a good room", "@SUM(1) a bad room"])
    run(source, out=tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["x"].tolist() == [
        "'=1+1 a good room",
        "'@SUM(1) a bad room",
    ]


def test_an_existing_file_is_written_over_by_force_alone_and_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    source, out = write(tmp_path / "a.csv", TEXTS), tmp_path / "out.parquet"
    out.write_text("mine")
    with pytest.raises(DataError, match="is there already; say --force"):
        run(source)
    with pytest.raises(RegistryError):
        run(source, "nobody", force=True)
    assert out.read_text() == "mine"
    run(source, force=True)
    assert len(pd.read_parquet(out)) == len(TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out.parquet"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    source, out = write(tmp_path / "a.csv", TEXTS), tmp_path / "out.jsonl"
    out.write_text("mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As with a full disk, the system refuses after some bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written .File too large."):
            run(source, out=out, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out.jsonl"]


def test_the_input_is_never_written_over(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", TEXTS)
    before = source.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(source)
    for out in (source, tmp_path / "link.jsonl"):
        with pytest.raises(DataError, match="is the input itself"):
            run(source, out=out, force=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "fact"),
    [
        ("out.xlsx", "must end in .parquet, .jsonl, .csv"),
        ("no/out.jsonl", "there is no folder"),
        ("dir.jsonl", "is a folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, out: str, fact: str
) -> None:
    (tmp_path / "dir.jsonl").mkdir()
    with pytest.raises(DataError, match=fact):
        run(write(tmp_path / "a.csv", TEXTS), "nobody", out=tmp_path / out, force=True)


@pytest.fixture
def kept() -> Generator[Path]:
    yield Path("data/predict/tiny")
    shutil.rmtree("data/predict", ignore_errors=True)


def test_what_is_kept_says_when_and_by_which_model_and_no_two_are_one(
    tmp_path: Path, kept: Path
) -> None:
    source = write(tmp_path / "a.txt", [*TEXTS, ""])
    result = run(source, "tiny", log=True)
    assert result.log is not None
    assert result.log.parent == kept
    found, written = pd.read_parquet(result.log), pd.read_parquet(result.out)
    pd.testing.assert_frame_equal(found[COLUMNS], written)
    assert list(found.columns) == [*COLUMNS, "time", "model", "model_sha256"]
    assert (set(found["model"]), set(found["model_sha256"])) == ({"tiny@1"}, {result.sha256})
    age = pd.Timestamp.now("UTC") - pd.Timestamp(found["time"].unique().item())
    assert pd.Timedelta(-1, "s") < age < pd.Timedelta(60, "s")
    run(source, FOLDER, log=True, force=True)
    assert len(list(kept.glob("2???????T??????Z-??????.parquet"))) == 2 == len(list(kept.iterdir()))


# ---- what is not there, and what is damaged ------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "error", "fact"),
    [
        ("nobody", RegistryError, "nobody: the registry has no model of this name; it has: tiny"),
        ("nobody@1", RegistryError, "nobody: the registry has no model of this name; it has: tiny"),
        ("tiny@7", RegistryError, "tiny: the registry has no version 7; it has: 1"),
        ("tiny@0", ModelError, "is neither TASK, nor TASK@NUMBER, nor a folder with a model.json"),
        ("tiny@best", ModelError, "is neither TASK, nor TASK@NUMBER"),
        (
            "data/finetune",
            ModelError,
            "is neither TASK, nor TASK@NUMBER, nor a folder with a model.json",
        ),
        ("data/raw/tiny_bert", ModelError, "nor a folder with a model.json"),
    ],
)
def test_a_model_that_is_not_there_names_what_is(
    tmp_path: Path, model: str, error: type[RefitError], fact: str
) -> None:
    with pytest.raises(error, match=fact):
        run(write(tmp_path / "a.csv", TEXTS), model)


def test_a_model_without_a_champion_names_its_versions(tmp_path: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    client.delete_registered_model_alias("tiny", store.ALIAS)
    try:
        with pytest.raises(
            RegistryError, match=r"tiny: the registry has no champion \(say tiny@1\); it has: 1"
        ):
            run(write(tmp_path / "a.csv", TEXTS), "tiny")
        assert run(tmp_path / "a.csv", "tiny@1").rows == len(TEXTS)
    finally:
        client.set_registered_model_alias("tiny", store.ALIAS, "1")


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("gone.csv", None, "is not there; name a file"),
        ("a.xlsx", b"x", r"a.xlsx: is none of .csv, .tsv, .jsonl, .ndjson, .parquet, .txt"),
        ("a.csv", b"", r"is empty \(0 bytes\)"),
        ("a.csv", b"text\n", "has a header and no data row; look at the file"),
        ("a.txt", "好\n".encode("utf-16")[:-1], "not whole UTF-16"),
        ("a.csv", b'text\n"a\nb\n', "not strict CSV"),
        ("a.txt.gz", gzip.compress(b"a\n")[:-2], "not a gzip file"),
        (
            "a.csv.gz",
            gzip.compress(b"text\n" + os.urandom(2**20).hex().encode())[:-2000],
            "not a whole gzip file",
        ),
        ("a.parquet", b"x", "not a Parquet file"),
        ("a.txt", "这个手机很好用\n我不会再来\n".encode("gbk"), "is written in GB18030"),
    ],
    ids=range(10),
)
def test_an_input_that_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, fact: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=fact):
        run(tmp_path / name)
    assert not (tmp_path / "out.parquet").exists()


def test_a_folder_a_picture_and_a_pipe_are_no_input_for_a_model_of_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    os.mkfifo(tmp_path / "b.csv")
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    for name, fact in (
        ("a.csv", "the model reads texts; name a table"),
        ("b.csv", "is not a regular file"),
        ("c.png", "the model reads texts; name a table"),
    ):
        with pytest.raises(TableError, match=fact):
            run(tmp_path / name)
        assert not (tmp_path / "out.parquet").exists()


def test_a_task_that_params_do_not_know_is_said_by_its_name(
    tmp_path: Path, here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    YAML().dump({"flows": flows(), "sources": {}, "tasks": {}}, tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="params.yaml: has no task 'tiny', whose `compute`"):
        run(write(tmp_path / "a.csv", TEXTS), str(here.root / FOLDER))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flipped", "gone"])
@pytest.mark.parametrize("name", ["model.json", "model/model.safetensors"])
def test_a_registered_model_that_is_damaged_is_refused(
    tmp_path: Path, here: Project, name: str, damage: Any
) -> None:
    path = next((here.root / "mlruns").rglob("artifacts/model.json")).parent / name
    kept = path.read_bytes()
    damage(path)
    try:
        with pytest.raises(
            ModelError,
            match=(
                "the model's bytes are not those that were registered|the registry has "
                "lost its artifacts"
            ),
        ):
            run(write(tmp_path / "a.csv", TEXTS), "tiny")
    finally:
        path.write_bytes(kept)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("name", ["model.json", "model/model.safetensors", "model/config.json"])
def test_a_folder_that_is_damaged_is_refused(tmp_path: Path, name: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "mine")
    (tmp_path / "mine" / name).chmod(0o644)
    (tmp_path / "mine" / name).write_text("{}")
    with pytest.raises(ModelError, match="the model's bytes are not those"):
        run(write(tmp_path / "a.csv", TEXTS), str(tmp_path / "mine"))
