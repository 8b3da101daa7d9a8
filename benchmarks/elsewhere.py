"""Run the real stages in a folder of their own, so that a benchmark does not change the project."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path.cwd()


def write_params(folder: Path, sources: Any, tasks: Any, flows: Any = None) -> None:
    """Write the params.yaml of a folder, and the profiles that it may name.

    It has this project's own flows unless others are given.
    """
    shutil.copytree(ROOT / "data/profiles", folder / "data/profiles", dirs_exist_ok=True)
    YAML().dump(
        {"flows": flows or read_params()["flows"], "sources": sources, "tasks": tasks},
        folder / "params.yaml",
    )


def texts(folder: Path, table: bytes, columns: dict[str, str], **changed: dict[str, Any]) -> None:
    """Lay out a task `texts` over a table of texts, and a tiny base model.

    The task is `questions` with other values in its sections.
    """
    (folder / "data/raw/texts").mkdir(parents=True)
    (folder / "data/raw/texts/train.csv").write_bytes(table)
    params = read_params()
    task = params["tasks"]["questions"]
    tiny(folder / "data/raw" / task["base"], "texts")
    task["problem"]["labels"] = None
    files = [{"path": "train.csv", "part": None, "rows": None}]
    task["data"] = {
        "source": "texts",
        "encoding": "utf-8",
        "layout": {"name": "table", "files": files, "columns": columns, "dialect": None},
    }
    for section, values in changed.items():
        task[section] |= values
    task["validate"]["domain"] |= {"profile": "unknown", "run_base": False}
    write_params(folder, params["sources"], {"texts": task})


def tiny(folder: Path, kind: str) -> None:
    """Write a model of a few thousand random weights (seed 0) as the base model."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        BertTokenizer,
        MobileNetV2Config,
        MobileNetV2ForImageClassification,
        MobileNetV2ImageProcessorPil,
    )  # fmt: skip

    torch.manual_seed(0)
    if kind == "texts":
        pieces = [
            mark + letter
            for mark in ("", "##")
            for letter in "abcdefghijklmnopqrstuvwxyz0123456789"
        ]
        vocabulary = {
            word: i
            for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
        }
        BertTokenizer(vocab=vocabulary).save_pretrained(folder)
        shape = {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
        BertModel(BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder)
    else:
        small = MobileNetV2Config(depth_multiplier=0.1, min_depth=4, depth_divisible_by=4)
        MobileNetV2ForImageClassification(small).save_pretrained(folder)
        MobileNetV2ImageProcessorPil().save_pretrained(folder)


def read_params(folder: Path = ROOT) -> Any:
    """Return params.yaml as plain values."""
    return YAML(typ="safe").load(folder / "params.yaml")


@dataclass(frozen=True)
class Cost:
    """What a process and its own children took until its end, by the clock and of cores."""

    seconds: float
    cpu: float


class Failed(subprocess.CalledProcessError):
    """A failed process, with what it wrote to stderr."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.stderr}"


def run(folder: Path, module: str, *arguments: str) -> Cost:
    """Run a module of this project in the folder and return its cost.

    Raises Failed, with what the module wrote to stderr, if it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        # The child is reaped: Popen must not wait for it.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise Failed(process.returncode, command, stderr=said.read().decode(errors="replace"))
    return Cost(seconds, used.ru_utime + used.ru_stime)


@contextmanager
def inside(folder: Path) -> Generator[None]:
    """Work in a folder, as a stage called in this process does."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def read(folder: Path, stage: str, task: str, name: str) -> Any:
    """Return a JSON file that a stage wrote in the folder."""
    return json.loads((folder / "data" / stage / task / name).read_text())
