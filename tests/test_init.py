"""refit init: a project of one's own, and a newer Refit for it later."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.commands import bases
from stages.contract import settings
from tests.conftest import ROOT, Project, rows, write_csv
from tests.test_add import line_of

NOBODY = {  # a user who has not told git who they are
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "HOME": "/nonexistent",
}


def init(
    folder: Path, ok: bool = True, source: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `refit init` of the Refit in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.cli", "init", str(folder)],
        cwd=source,
        env=os.environ | NOBODY | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ok or done.returncode == 0, done.stderr
    return done


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "new/mine"
    said = init(folder).stdout
    assert f"next: cd {folder} && make setup" in said
    return folder


def test_a_new_project_has_what_came_from_refit_and_learns_from_own_data(
    made: Path, tiny_base: Path
) -> None:
    assert git(made, "status", "--porcelain") == ""
    assert git(made, "log", "--format=%s", "refit").startswith("Refit 0")
    assert git(made, "rev-parse", "main~1") == git(made, "rev-parse", "refit")
    stages = git(ROOT, "ls-files", "stages", "flows", "dvc.yaml", "Makefile", "data/profiles")
    assert set(stages.splitlines()) <= set(git(made, "ls-files").splitlines())
    params = settings.load(made / "params.yaml")
    assert (params.tasks, params.sources) == ({}, {})
    assert params.flows == settings.load(ROOT / "params.yaml").flows
    project = Project(made)
    write_csv(made.parent / "reviews.csv", rows(120))
    for command in (
        ("add", "mine", str(made.parent / "reviews.csv"), "--base", str(tiny_base)),
        ("remove", "mine", "--data"),
    ):
        project.run(str(Path(sys.executable).with_name("refit")), *command)
    git(made, "checkout", "-q", ".")
    git(made, "clean", "-fdq")


def test_the_examples_bases_can_be_named_without_the_examples() -> None:
    named = settings.load(ROOT / "params.yaml").sources
    known = bases.known()
    assert {task.base for task in settings.load(ROOT / "params.yaml").tasks.values()} <= set(known)
    assert all(known[name] == source for name, source in named.items() if name in known)


@pytest.mark.slow
def test_a_newer_refit_is_merged_with_what_the_owner_changed(made: Path, tmp_path: Path) -> None:
    assert "has this Refit already" in init(made).stdout
    own = made / "stages/fetch.py"
    own.write_text(own.read_text() + "# mine\n")
    git(made, "commit", "-qam", "mine")
    newer = tmp_path / "newer"
    init(newer)
    changed = newer / "stages/export.py"
    changed.write_text(changed.read_text() + "# newer\n")
    said = init(made, source=newer).stdout
    assert "no file changed" in said and "git merge refit" in said
    assert git(made, "status", "--porcelain") == ""
    assert "# newer" not in (made / "stages/export.py").read_text()
    git(made, "merge", "-q", "refit")
    assert (made / "stages/export.py").read_text().endswith("# newer\n")
    assert own.read_text().endswith("# mine\n")
    assert "has this Refit already" in init(made, source=newer).stdout


@pytest.mark.slow
def test_a_clone_is_brought_the_newer_refit_too_and_its_own_refit_is_refused(
    made: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "-q", str(made), str(tmp_path / "clone"))
    newer = tmp_path / "newer"
    init(newer)
    (newer / "stages/new.py").write_text('"""New."""\n')
    assert "git merge refit" in init(tmp_path / "clone", source=newer).stdout
    git(tmp_path / "clone", "merge", "-q", "refit")
    assert (tmp_path / "clone/stages/new.py").is_file()
    own = init(tmp_path / "clone", ok=False, source=tmp_path / "clone")
    assert "is this Refit itself" in line_of(own)
    git(tmp_path / "clone", "switch", "-q", "refit")
    assert "checked out" in line_of(init(tmp_path / "clone", ok=False, source=newer))


def test_an_empty_folder_is_filled_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = init(Path(), source=tmp_path / "empty", PYTHONPATH=str(ROOT)).stdout
    assert "a new project" in said and (tmp_path / "empty/dvc.yaml").is_file()
    assert not [*(tmp_path / "empty").glob(".refit-*")]
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/below"):
        assert "is a file; name a folder" in line_of(init(tmp_path / name, ok=False))
    assert "cd '/" in init(tmp_path / "with a space").stdout


def test_a_folder_that_is_not_empty_and_no_project_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("mine")
    assert "is not empty" in line_of(init(tmp_path / "other", ok=False))
    git(tmp_path / "other", "init", "-q")
    assert "it has no branch refit" in line_of(init(tmp_path / "other", ok=False))
    assert {path.name for path in tmp_path.rglob("*") if ".git" not in path.parts} == {
        "other",
        "file",
    }
    assert "git is not installed" in line_of(init(tmp_path / "new", ok=False, PATH=""))
    assert not (tmp_path / "new").exists()
