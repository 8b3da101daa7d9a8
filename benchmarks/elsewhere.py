"""Runs the real stages in a folder of their own, so that a benchmark leaves the project as it was."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path.cwd()


def write_params(folder: Path, sources: Any, tasks: Any, flows: Any = None) -> None:
    """Write the params.yaml of a folder, with this project's own flows unless given, and the profiles that it may name."""
    shutil.copytree(ROOT / "data/profiles", folder / "data/profiles", dirs_exist_ok=True)
    YAML().dump({"flows": flows or read_params()["flows"], "sources": sources, "tasks": tasks}, folder / "params.yaml")


def texts(folder: Path, table: bytes, columns: dict[str, str], **changed: dict[str, Any]) -> None:
    """Lay out a task `texts` over a table of texts, made of `questions`, with other values in its sections; no base model is there to be run."""
    (folder / "data/raw/texts").mkdir(parents=True)
    (folder / "data/raw/texts/train.csv").write_bytes(table)
    params = read_params()
    task = params["tasks"]["questions"]
    (folder / "data/raw" / task["base"]).mkdir()
    task["problem"]["labels"] = None
    files = [{"path": "train.csv", "part": None, "rows": None}]
    task["data"] = {"source": "texts", "encoding": "utf-8", "layout": {"name": "table", "files": files, "columns": columns, "dialect": None}}
    for section, values in changed.items():
        task[section] |= values
    task["validate"]["domain"] |= {"profile": "unknown", "run_base": False}
    write_params(folder, params["sources"], {"texts": task})


def read_params(folder: Path = ROOT) -> Any:
    """Return params.yaml as plain values."""
    return YAML(typ="safe").load(folder / "params.yaml")


def run(folder: Path, module: str, *arguments: str) -> None:
    """Run a module of this project there; raises CalledProcessError, with what it said, where it fails."""
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.DEVNULL)


def read(folder: Path, stage: str, task: str, name: str) -> Any:
    """Return a JSON file that a stage wrote there."""
    return json.loads((folder / "data" / stage / task / name).read_text())
