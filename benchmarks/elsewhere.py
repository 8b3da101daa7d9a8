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


def write_params(folder: Path, sources: Any, tasks: Any) -> None:
    """Write the params.yaml of a folder, and the profiles that it may name."""
    shutil.copytree(ROOT / "data/profiles", folder / "data/profiles", dirs_exist_ok=True)
    YAML().dump({"sources": sources, "tasks": tasks}, folder / "params.yaml")


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
