"""refit add --append: more rows of a task that is there."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.contract import manifest, settings
from tests.conftest import Project, rows, write_csv, write_texts
from tests.test_add import REFIT, empty, line_of, project, state

__all__ = ["empty", "project"]  # fixtures


def refit(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return project.run(str(REFIT), *arguments, ok=ok)


def tracked(project: Project) -> str:
    return (project.root / "data/raw/mine.dvc").read_text()


def test_a_table_is_one_more_of_the_task_s_tables_and_only_its_lines_change(
    project: Project, tmp_path: Path
) -> None:
    write_csv(tmp_path / "mine.csv", rows(120))
    write_csv(tmp_path / "more.csv", rows(60, seed=2))
    refit(project, "add", "mine", str(tmp_path / "mine.csv"), "--base", "tiny_bert")
    before, stated = (project.root / "params.yaml").read_text(), tracked(project)
    said = refit(project, "add", "mine", str(tmp_path / "more.csv"), "--append").stdout
    assert said.splitlines() == [
        "data/raw/mine: 60 more rows, 0 bad, in more.csv",
        "next: dvc repro register@mine",
    ]
    after = (project.root / "params.yaml").read_text()
    new = "        - path: more.csv\n          part:\n          rows:\n"
    assert after.replace(new, "") == before
    assert tracked(project) != stated
    project.stage("validate", "mine")
    assert len(manifest.read(project.root / "data/validate/mine/manifest.parquet")) == 180


@pytest.mark.slow
def test_new_rows_are_for_training_if_the_data_set_has_a_test_of_its_own(
    project: Project, tmp_path: Path
) -> None:
    for name, seed in (("train", 1), ("test", 2)):
        write_csv(tmp_path / f"mine/{name}.csv", rows(90, seed=seed))
    write_csv(tmp_path / "more.csv", rows(60, seed=3))
    refit(project, "add", "mine", str(tmp_path / "mine"), "--base", "tiny_bert")
    refit(project, "add", "mine", str(tmp_path / "more.csv"), "--append")
    layout = settings.load(project.root / "params.yaml").tasks["mine"].data.layout
    assert layout.name == "table"
    assert [(file.path, file.part) for file in layout.files] == [
        ("train.csv", "train"),
        ("test.csv", "test"),
        ("more.csv", "train"),
    ]
    write_csv(tmp_path / "more_test.csv", rows(30, seed=4))
    said = refit(project, "add", "mine", str(tmp_path / "more_test.csv"), "--append").stdout
    assert "30 more rows, 0 bad, in more_test.csv (test)" in said


@pytest.mark.slow
def test_files_join_the_folders_of_their_labels(project: Project, tmp_path: Path) -> None:
    write_texts(tmp_path / "mine")
    refit(project, "add", "mine", str(tmp_path / "mine"), "--base", "tiny_bert")
    params = (project.root / "params.yaml").read_bytes()
    for file in list((tmp_path / "mine").rglob("*.txt")):
        file.rename(file.with_name(f"new_{file.name}"))
    shutil.rmtree(tmp_path / "mine/ask")  # a folder of one label is enough
    shutil.rmtree(tmp_path / "mine/blame")
    said = refit(project, "add", "mine", str(tmp_path / "mine"), "--append").stdout
    assert "data/raw/mine: 30 more rows, 0 bad" in said
    assert (project.root / "params.yaml").read_bytes() == params
    assert len([*(project.root / "data/raw/mine").rglob("*.txt")]) == 120
    assert "nfiles: 120" in tracked(project)


REFUSED = {
    "no such task": (("nothing", "more.csv"), "there is no task 'nothing'"),
    "a file that is there": (("mine", "mine.csv"), "data/raw/mine: has mine.csv already"),
    "other columns": (("mine", "columns.csv"), "column 'text'"),
    "labels that it does not have": (("mine", "labels.csv"), "does not have: new"),
    "a folder a label": (
        ("mine", "texts"),
        "is not like the task's data: one of them is in tables",
    ),
    "nothing": (("mine", "nothing.csv"), "is not there"),
    "rows that are mostly bad": (("mine", "bad.csv"), "rows cannot be used"),
    "another option": (("mine", "more.csv", "--label", "label"), "leave other options out"),
    "other delimiters": (("mine", "semicolons.csv"), "fields are separated in another way"),
}


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory, empty: Project) -> Project:
    """A project with a task `mine` over a table, which no test here changes."""
    folder = tmp_path_factory.mktemp("append")
    project = empty.copy(folder / "project")
    write_csv(folder / "mine.csv", rows(120))
    refit(project, "add", "mine", str(folder / "mine.csv"), "--base", "tiny_bert")
    write_csv(folder / "more.csv", rows(30, seed=2))
    write_csv(folder / "columns.csv", [{"words": "a", "kind": "b"}] * 20)
    write_csv(folder / "labels.csv", [row | {"label": "new"} for row in rows(30)])
    (folder / "semicolons.csv").write_text("text;label\n" + "yes, sure;ask\n" * 20)
    write_texts(folder / "texts")
    write_csv(folder / "bad.csv", [{"text": " ", "label": "ask"}] * 20)
    return project


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_like_the_task_is_one_line_and_leaves_everything(
    added: Project, what: str
) -> None:
    (name, file, *options), fact = REFUSED[what]
    before, stated = state(added), tracked(added)
    refused = refit(
        added, "add", name, str(added.root.parent / file), "--append", *options, ok=False
    )
    assert fact in line_of(refused)
    assert (state(added), tracked(added)) == (before, stated)


@pytest.mark.slow
def test_raw_data_that_was_lost_or_changed_is_not_tracked_in_passing(
    added: Project, tmp_path: Path
) -> None:
    project = added.copy(tmp_path / "project")
    table, more = project.root / "data/raw/mine/mine.csv", str(added.root.parent / "more.csv")
    stated, whole = tracked(project), table.read_bytes()
    for change, fact in (
        (table.unlink, "lacks data/raw/mine/mine.csv; bring it back: dvc checkout"),
        (lambda: table.write_bytes(whole + b"a,ask\n"), "its bytes are not those that"),
    ):
        change()
        assert fact in line_of(refit(project, "add", "mine", more, "--append", ok=False))
        assert tracked(project) == stated
    table.write_bytes(whole)
    # a copy that an append left which was killed
    shutil.copy(added.root.parent / "more.csv", project.root / "data/raw/mine")
    refit(project, "add", "mine", more, "--append")
    assert "nfiles: 2" in tracked(project)


@pytest.mark.slow
def test_every_task_of_a_source_reads_the_new_rows_or_none_does(
    added: Project, tmp_path: Path
) -> None:
    project = added.copy(tmp_path / "project")
    table = [row | {"kind": row["label"].upper()} for row in rows(120)]
    write_csv(tmp_path / "both.csv", table)
    for name in ("ours", "others"):
        refit(project, "add", name, str(tmp_path / "both.csv"), "--base", "tiny_bert",
              "--text", "text", "--label", "label" if name == "ours" else "kind")  # fmt: skip
    project.params(lambda p: p["tasks"]["others"]["data"].update(source="ours"))
    before = state(project)
    more = str(added.root.parent / "more.csv")  # it has no column `kind`
    assert "column 'kind'" in line_of(refit(project, "add", "ours", more, "--append", ok=False))
    assert state(project) == before
    write_csv(tmp_path / "more.csv", table[:30])
    said = refit(project, "add", "ours", str(tmp_path / "more.csv"), "--append").stdout
    assert "params.yaml: tasks.others reads them too" in said
    for task in ("ours", "others"):
        layout = settings.load(project.root / "params.yaml").tasks[task].data.layout
        assert layout.name == "table" and layout.files[-1].path == "more.csv"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["crlf", "one line of crlf"])
def test_line_ends_of_params_yaml_stay(added: Project, tmp_path: Path, ending: str) -> None:
    project = added.copy(tmp_path / "project")
    path = project.root / "params.yaml"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n", -1 if ending == "crlf" else 1))
    refit(project, "add", "mine", str(added.root.parent / "more.csv"), "--append")
    after = path.read_bytes()
    assert after.count(b"\r") == (after.count(b"\n") if ending == "crlf" else 1)
    assert b"path: more.csv" in after


def test_an_address_is_not_appended(added: Project) -> None:
    for where in ("https://example.org/a.csv", "hub:org/toy"):
        refused = refit(added, "add", "mine", where, "--append", ok=False)
        assert "takes a table or a folder of this machine" in line_of(refused)


def test_a_source_that_is_fetched_is_not_appended_to(added: Project, tmp_path: Path) -> None:
    project = added.copy(tmp_path / "project")
    stated = project.root / "data/raw/mine.dvc"
    stated.write_text("deps:\n- path: https://example.org/mine.csv\n" + stated.read_text())
    refused = refit(
        project, "add", "mine", str(added.root.parent / "more.csv"), "--append", ok=False
    )
    assert "is fetched or imported" in line_of(refused)


@pytest.mark.slow
def test_an_append_that_dvc_refuses_leaves_everything(added: Project, tmp_path: Path) -> None:
    project = added.copy(tmp_path / "project")
    before, stated = state(project), tracked(project)
    cache = project.root / ".dvc/cache/files"
    shutil.rmtree(cache, ignore_errors=True)
    cache.write_text("in the way")
    refused = refit(
        project, "add", "mine", str(added.root.parent / "more.csv"), "--append", ok=False
    )
    assert "dvc add" in line_of(refused)
    assert (state(project), tracked(project)) == (before, stated)
