"""A small real project: the repo's own DAG over a table made here, and a random base model.

Many tests start from one of two projects, which are made once in a run and copied: one in which
nothing has run, and one in which `dvc repro` ran.
"""

import copy
import csv
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from stages.commands.status import STAGES
from stages.contract.runner import QUIET

ROOT = Path(__file__).parent.parent
COPIED = (
    "stages",
    "flows",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    "Makefile",
    "pyproject.toml",
    "data/README.md",
    "data/profiles",
)
COMMANDS = {"dvc": "dvc", "refit": "stages.cli"}  # command -> module
WORDS = {
    "praise": "good great fine lovely superb excellent pleasant perfect".split(),
    "blame": "bad poor awful dull broken terrible useless rotten".split(),
    "ask": "why when where how who which whose what".split(),
}
FILLERS = (
    "the a room meal phone screen river train ticket answer was is and very quite "
    "rather today again here"
).split()


# Files of the longest tests, longest first, so that no worker waits for the other at the end;
# --dist loadfile hands them out in this order.
LONGEST = ("flow", "pipeline", "extending", "registry", "image", "benchmarks", "habits", "resuming",
           "add", "architecture", "evaluation", "formats", "domain",
           "near_pictures", "judging", "bad_inputs", "staleness", "predict")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    place = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


# Every run draws the same examples.
hypothesis.settings.register_profile("refit", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("refit")


@pytest.fixture(autouse=True)
def store_unnamed() -> Iterator[None]:
    """Forget the store that a test gave to its process: a process of the product has one folder."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None) if before is None else os.environ.update(
        MLFLOW_TRACKING_URI=before
    )


@pytest.fixture(scope="session", autouse=True)
def quiet() -> Iterator[None]:
    """Give the tests what the runner gives a stage, and DVC the same shell on every machine.

    The runner gives it no telemetry, no hub, and no spinning threads.
    """
    os.environ.update(
        QUIET
        | {"DVC_NO_ANALYTICS": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "SHELL": "/bin/sh"}
    )
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield
    if warm.cache_info().currsize:
        with warm():
            warm.cache_clear()


@cache
def warm() -> subprocess.Popen[str]:
    """Start the process from which DVC, refit and stages are forked."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tests/warm.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def rows(number: int = 240, seed: int = 1) -> list[dict[str, str]]:
    """Return texts whose label follows from one word among fillers: a tiny model can learn them."""
    draw = random.Random(seed)
    made = []
    for i in range(number):
        label = list(WORDS)[i % 3]
        words = [*draw.sample(FILLERS, 4), *draw.sample(WORDS[label], 2)]
        draw.shuffle(words)
        made.append({"text": " ".join(words), "label": label})
    return made


def write_texts(folder: Path, number: int = 90) -> Path:
    """Write rows as a folder for each label and a file for each text, and return the folder."""
    for i, row in enumerate(rows(number)):
        path = folder / row["label"] / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["text"])
    return folder


def write_csv(path: Path, table: list[dict[str, str]]) -> None:
    """Write rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def write_base(folder: Path) -> Path:
    """Write a real, tiny BERT (random weights, seed 0) and its tokenizer, and return the folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *FILLERS,
        *(word for words in WORDS.values() for word in words),
        *"abcdefghijklmnopqrstuvwxyz0123456789",
    ]
    words += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model of the tests."""
    return write_base(tmp_path_factory.mktemp("base"))


@dataclass
class Project:
    """A checkout in a folder of its own."""

    root: Path

    def run(
        self, *command: str, ok: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; by default it must succeed.

        DVC, refit and stages are forked from a process that has imported the libraries.
        """
        words = [Path(command[0]).name, *command[1:]]
        if words[0] in COMMANDS:
            done = self._fork(command, COMMANDS[words[0]], words[1:], environment)
        elif words[1:2] == ["-m"] and words[2].startswith("stages."):
            done = self._fork(command, words[2], words[3:], environment)
        else:
            done = subprocess.run(
                command,
                cwd=self.root,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        assert not ok or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def _fork(
        self,
        command: tuple[str, ...],
        module: str,
        arguments: list[str],
        environment: dict[str, str],
    ) -> subprocess.CompletedProcess[str]:
        server, said = (
            warm(),
            [
                Path(tempfile.gettempdir(), f"refit-{os.getpid()}.{of}")
                for of in ("stdout", "stderr")
            ],
        )
        assert server.stdin and server.stdout
        server.stdin.write(
            json.dumps(
                [str(self.root), module, arguments, os.environ | environment, *map(str, said)]
            )
            + "\n"
        )
        server.stdin.flush()
        assert select.select([server.stdout], [], [], 600)[0], (
            f"{command} takes more than 10 minutes"
        )
        done = subprocess.CompletedProcess(
            command, int(server.stdout.readline()), *(path.read_text() for path in said)
        )
        for path in said:
            path.unlink()
        return done

    def repro(
        self, *targets: str, ok: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run dvc repro."""
        return self.run("dvc", "repro", *targets, ok=ok, **environment)

    def ran(self, *targets: str) -> set[str]:
        """Run dvc repro and return the stages whose command ran.

        Stages replayed from the run cache do not count.
        """
        output = self.repro(*targets, "--no-run-cache").stdout
        return {
            line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")
        }

    def params(self, change: Callable[[Any], None]) -> None:
        """Change params.yaml."""
        path = self.root / "params.yaml"
        yaml = YAML()  # ruamel's round-trip reader, which builds no objects
        document = yaml.load(path)
        change(document)
        yaml.dump(document, path)

    def stage(
        self, name: str, key: str = "tiny", ok: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one stage by hand; as in `dvc repro`, DVC takes note of changed raw data."""
        for stated in (self.root / "data/raw").glob("*.dvc"):
            folder = stated.with_suffix("")
            paths = [] if name == "register" else [folder, *folder.rglob("*")]
            # A pipe would hang DVC.
            if any(path.lstat().st_mtime > stated.stat().st_mtime for path in paths) and not any(
                path.is_fifo() for path in paths
            ):
                self.run("dvc", "add", "-q", f"data/raw/{folder.name}", ok=False)
        return self.run(sys.executable, "-m", f"stages.{name}", key, ok=ok, **environment)

    def through(self, *stages: str, key: str = "tiny", **environment: str) -> "Project":
        """Run stages by hand, by default all of a task, and let DVC take note.

        That is what `dvc repro` does, in a fifth of its time.
        """
        # register is last, because it reads dvc.lock.
        for some in (
            [of for of in stages or STAGES if of != "register"],
            [of for of in stages or STAGES if of == "register"],
        ):
            for stage in some:
                self.stage(stage, key, **environment)
            if some:
                self.run("dvc", "commit", "-q", "-f", *(f"{stage}@{key}" for stage in some))
        # `dvc repro` keeps no run of register, whose outs are not cached.
        for kept in (self.root / ".dvc/cache/runs").glob("*/*"):
            if any(f"data/register/{key}" in run.read_text() for run in kept.iterdir()):
                shutil.rmtree(kept)
        return self

    def copy(self, root: Path) -> "Project":
        """Return a copy without the path it was copied from, which DVC writes down."""
        shutil.copytree(self.root, root, symlinks=True)
        config = root / ".dvc/config.local"
        config.write_text(config.read_text().replace(str(self.root), str(root)))
        return Project(root)

    def forget(self, *stages: str) -> "Project":
        """Remove what stages of `tiny` wrote, and the registry, as if they had not run."""
        for stage in stages:
            shutil.rmtree(self.root / "data" / stage)
        path, yaml = self.root / "dvc.lock", YAML()
        lock = yaml.load(path)
        for stage in stages:
            del lock["stages"][f"{stage}@tiny"]
        yaml.dump(lock, path) if lock["stages"] else path.unlink()
        (self.root / "mlflow.db").unlink(missing_ok=True)
        shutil.rmtree(self.root / "mlruns", ignore_errors=True)
        return self


LEARNS: dict[str, Any] = {  # settings that learn a tiny task in a second
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.01,
    "head_learning_rate": 0.01,
    "head": {"name": "random"},
    "tune": {"name": "full", "embeddings": True},
}


def block(source: str = "reviews", files: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return a complete task over a small table: the repo's own, made small."""
    task: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")["tasks"]["questions"]
    task["base"] = "tiny_bert"
    files = files or [{"path": "train.csv", "part": None, "rows": None}]
    task["data"] = {
        "source": source,
        "encoding": "utf-8",
        "layout": {
            "name": "table",
            "files": files,
            "columns": {"x": "text", "y": "label"},
            "dialect": None,
        },
    }
    task["problem"]["labels"] = None
    # The same arithmetic on every machine.
    task["compute"] |= {"threads": 1, "dtype": "float32", "batch_size": 32}
    task["validate"] |= {"min_rows": 20, "min_rows_per_label": 5, "max_bad_fraction": 0.15}
    task["validate"]["label_distribution"] = {"name": "uniform", "max_kl": 0.5}
    task["validate"]["domain"] |= {"profile": "unknown", "run_base": False}
    task["split"] |= {"validation": 0.2, "test": 0.3}
    # If two tasks shared a list, it would be written with an anchor.
    task["finetune"] |= copy.deepcopy(LEARNS)
    task["evaluate"] |= {"baselines": [{"name": "majority"}], "cost_rows": None}
    task["register"]["gates"][1]["least"] = 0.5
    return task


def flows() -> dict[str, Any]:
    """Return the section flows of the repo's own params.yaml, on no schedule."""
    section: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")["flows"]
    section["pipeline"]["cron"] = section["watch"]["cron"] = None
    return section | {"retry_seconds": 1.0}


def make_project(root: Path, base: Path, tasks: dict[str, Any] | None = None) -> Project:
    """Make a project with one task `tiny`, its data and base model tracked by `dvc add`."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(
            source, target
        )
    project = Project(root)
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc" / name)
    project.run("dvc", "config", "--local", "core.site_cache_dir", str(root / ".dvc/site"))
    shutil.copytree(base, root / "data/raw/tiny_bert")
    write_csv(root / "data/raw/reviews/train.csv", rows())
    yaml = YAML()
    yaml.dump(
        {"flows": flows(), "sources": {}, "tasks": tasks or {"tiny": block()}}, root / "params.yaml"
    )
    project.run("dvc", "add", "-q", "data/raw/reviews", "data/raw/tiny_bert")
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start")
    return project


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Return the folder that build makes: one worker of a run makes it, and the others wait.

    This is pytest-xdist's own recipe.
    """
    shared = (
        factory.getbasetemp().parent
        if "PYTEST_XDIST_WORKER" in os.environ
        else factory.getbasetemp()
    )
    root, ready = shared / name, shared / f"{name}.ready"
    with FileLock(shared / f"{name}.lock"):
        if not ready.exists():
            shutil.rmtree(root, ignore_errors=True)
            build(root)
            ready.touch()
    return root


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """The project in which nothing has run, for tests to copy."""
    return Project(once(tmp_path_factory, "fresh", lambda root: make_project(root, tiny_base)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, fresh: Project) -> Project:
    """The project in which every stage has run once, for tests to copy."""
    return Project(once(tmp_path_factory, "finished", lambda root: fresh.copy(root).through()))


@pytest.fixture
def project(tmp_path: Path, fresh: Project) -> Project:
    """A test's own project in which nothing has run."""
    return fresh.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, finished: Project) -> Project:
    """A project in which every stage has run once.

    The tests of a module share it and leave it as they found it.
    """
    return finished.copy(tmp_path_factory.mktemp("done") / "project")
