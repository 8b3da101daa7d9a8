"""Make a project of one's own from this one, and bring a newer Refit into it later.

The project is a git repository. Its branch `refit` has only what came from Refit, so that git
merges a newer one with what its owner changed.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from stages.commands import blocks
from stages.contract import settings
from stages.contract.errors import DataError
from stages.contract.escape import extract, one_line

ROOT = Path(__file__).parents[2]
TAKEN = (
    ".ci/install.py", ".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "Makefile",
    "constraints.txt", "data/README.md", "data/profiles", "docs", "dvc.yaml", "flows",
    "pyproject.toml",
    "stages",
)  # fmt: skip
BRANCH = "refit"
README = """# A project of Refit

`make setup && source .venv/bin/activate`, then `refit add NAME DATA` and `dvc repro`
(docs/own_data.md).

The branch `refit` has what came from Refit. `refit init FOLDER`, run by a newer Refit, puts that on
the branch; `git merge refit` then joins it with what was changed here.
"""


@dataclass(frozen=True)
class Made:
    """A folder, whether it is a new project, and the commit of its branch `refit`, if it moved."""

    folder: str
    new: bool
    commit: str | None


def init(folder: Path) -> Made:
    """Make a project in a folder that is empty or not there, or bring this Refit into its project.

    An existing project keeps its files: its branch `refit` gets a commit. Raises DataError for a
    folder that is neither, or if git is not installed.
    """
    folder = folder.resolve()
    if shutil.which("git") is None:
        raise DataError("git is not installed; a project is a git repository")
    if folder == ROOT:
        raise DataError(f"{extract(folder)}: is this Refit itself; run `refit init` of a newer one")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise DataError(f"{extract(there)}: is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        return Made(str(folder), False, _commit(folder, _parent(folder)))
    return Made(str(folder), True, _made(folder))


def told(made: Made) -> list[str]:
    """Return what was made as lines for a person to read."""
    here, folder = one_line(made.folder, 300), one_line(shlex.quote(made.folder), 300)
    if made.new:
        return [
            f"{here}: a new project, with no task yet",
            f"next: cd {folder} && make setup && source .venv/bin/activate && refit add NAME DATA",
        ]
    if made.commit is None:
        return [f"{here}: has this Refit already (branch {BRANCH})"]
    return [
        f"{here}: this Refit is commit {made.commit[:12]} of its branch {BRANCH}; no file changed",
        f"next: cd {folder} && git merge {BRANCH} && make setup && refit check",
    ]


def _made(folder: Path) -> str:
    """Make a project in a folder that is empty or not there; return the commit of its branch."""
    empty = folder.is_dir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    inside = folder if empty else folder.parent
    with tempfile.TemporaryDirectory(dir=inside, prefix=".refit-") as made:
        project = Path(made, "project")
        project.mkdir()
        _git(project, "init", "-q", "-b", "main")
        commit = _commit(project, "")
        _git(project, "reset", "-q", "--hard", BRANCH)
        (project / "README.md").write_text(README, "utf-8")
        _git(project, "add", "README.md")
        _git(project, *_author(project), "commit", "-q", "-m", "A project of its own")
        if not empty:
            project.rename(folder)
        else:  # it may be where a disk is mounted, or the current folder
            for path in project.iterdir():
                path.rename(folder / path.name)
    return commit or ""


def _parent(folder: Path) -> str:
    """Return the commit of a project's branch `refit`; a clone has it from its remote.

    Raises DataError if the folder is no project that `refit init` made.
    """
    names = (f"refs/heads/{BRANCH}", f"refs/remotes/*/{BRANCH}")
    found = (
        _git(folder, "for-each-ref", "--format=%(objectname)", *names).split()
        if (folder / ".git").exists()
        else []
    )
    if not found:
        raise DataError(
            f"{extract(folder)}: is not empty, and no project that `refit init` made (it has no "
            f"branch {BRANCH}); name an empty folder, or one that is not there"
        )
    if _git(folder, "rev-parse", "--symbolic-full-name", "HEAD") == f"refs/heads/{BRANCH}":
        raise DataError(f"{extract(folder)}: has its branch {BRANCH} checked out; switch first")
    return found[0]


def _commit(folder: Path, parent: str) -> str | None:
    """Put this Refit on the branch `refit` of a repository, and leave its files alone.

    Returns the commit, or None if the branch has the same files already.
    """
    with tempfile.TemporaryDirectory(prefix="refit-") as made:
        taken, index = Path(made, "taken"), Path(made, "index")
        _copy(taken)
        where = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(taken)}
        where["GIT_DIR"] = _git(folder, "rev-parse", "--absolute-git-dir")
        _git(taken, "add", "-A", "-f", **where)
        tree = _git(taken, "write-tree", **where)
    if parent and tree == _git(folder, "rev-parse", f"{parent}^{{tree}}"):
        return None
    after = ["-p", parent] if parent else []
    message = f"Refit {metadata.version('refit')}"
    commit = _git(folder, *_author(folder), "commit-tree", tree, *after, "-m", message)
    _git(folder, "update-ref", f"refs/heads/{BRANCH}", commit)
    return commit


def _copy(into: Path) -> None:
    """Copy what a project takes from here, without tasks and sources."""
    for path in map(Path, TAKEN):
        (into / path.parent).mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(
                ROOT / path, into / path, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )
        else:
            shutil.copyfile(ROOT / path, into / path)
    params = (ROOT / blocks.PARAMS).read_bytes().decode()
    for section, named in settings.read_yaml(ROOT / blocks.PARAMS).items():
        if section != "flows":
            for key in named:
                params = blocks.without(params, section, key)
    (into / blocks.PARAMS).write_bytes(params.encode())


def _author(folder: Path) -> list[str]:
    """Return git's options for an author, if the user has not said who they are."""
    try:
        _git(folder, "var", "GIT_AUTHOR_IDENT")
    except DataError:
        return ["-c", "user.name=Refit", "-c", "user.email=refit@localhost"]
    return []


def _git(folder: Path, *arguments: str, **environment: str) -> str:
    """Run git in a folder and return what it says; raises DataError with git's own words."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | environment,
        check=False,
    )
    if done.returncode:
        raise DataError(f"git {arguments[0]}: {one_line(done.stderr, 400)}")
    return done.stdout.strip()
