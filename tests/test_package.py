"""A source out of a wheel: real pip, a real wheel made here, no network."""

import base64
import hashlib
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.contract.receipts import sha256
from tests.conftest import Project

FILES = {"toy/data/a.csv": "text,label\nfine,good\n", "toy/data/below/b.txt": "b", "toy/__init__.py": "raise SystemExit('code of a source was run')\n"}
METADATA = {
    "toy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
    "toy-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_CONFIG_FILE": os.devnull,
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return a real wheel in a folder of its own."""
    path = tmp_path / "wheels" / "toy-1.0-py3-none-any.whl"
    path.parent.mkdir()
    held = FILES | METADATA
    digests = {n: base64.urlsafe_b64encode(hashlib.sha256(c.encode()).digest()).rstrip(b"=").decode() for n, c in held.items()}
    record = "".join(f"{n},sha256={digests[n]},{len(c.encode())}\n" for n, c in held.items()) + "toy-1.0.dist-info/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (held | {"toy-1.0.dist-info/RECORD": record}).items():
            archive.writestr(name, content)
    return path


def fetch(folder: Path, wheel: Path, environment: dict[str, str] | None = None, **change: Any) -> Any:
    """Run the stage in a folder that holds nothing but params.yaml."""
    origin = {
        "name": "package",
        "requirement": "toy==1.0",
        "sha256": sha256(wheel),
        "root": "toy/data",
        "members": ["a.csv", "below/b.txt"],
        "seconds": 60.0,
    }
    YAML().dump({"sources": {"toy": {"origin": origin | change, "licence": "CC0"}}, "tasks": {}}, folder / "params.yaml")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent), "PIP_CONFIG_FILE": os.devnull}
    root = str(Path(__file__).parent.parent)
    return Project(folder).stage("fetch", "toy", ok=False, PYTHONPATH=root, **(pip if environment is None else environment))


def one_line(done: Any) -> str:
    """Return the one line of a stage that refused; it says nothing else and leaves nothing."""
    assert done.returncode
    assert done.stderr.startswith("refit: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def left(folder: Path) -> list[Path]:
    return [p for p in (folder / "data").rglob("*") if p.is_file() and p.name != "lock"]


def test_members_are_written_with_their_origin_sha256_and_licence(tmp_path: Path, wheel: Path) -> None:
    done = fetch(tmp_path, wheel)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data/raw/toy"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {"a.csv", "below/b.txt", "source.json"}
    assert (folder / "a.csv").read_text() == FILES["toy/data/a.csv"]
    stated = json.loads((folder / "source.json").read_text())
    assert stated["files"] == {name: sha256(folder / name) for name in ("a.csv", "below/b.txt")}
    assert stated["licence"] == "CC0"
    assert stated["origin"] == {"requirement": "toy==1.0", "wheel": wheel.name, "sha256": sha256(wheel)}


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_nothing_is_written(tmp_path: Path, wheel: Path) -> None:
    done = fetch(tmp_path, wheel, sha256="0" * 64)
    line = one_line(done)
    assert done.returncode == 2
    assert "toy==1.0" in line and sha256(wheel) in line and "0" * 64 in line
    assert left(tmp_path) == []


def test_an_absent_member_is_named_with_those_found(tmp_path: Path, wheel: Path) -> None:
    done = fetch(tmp_path, wheel, members=["a.csv", "c.csv"])
    line = one_line(done)
    assert done.returncode == 2
    assert "holds no toy/data/c.csv (found there: toy/data/a.csv, toy/data/below/b.txt)" in line
    assert not (tmp_path / "data/raw").exists()


def test_a_version_that_is_not_there_is_one_line(tmp_path: Path, wheel: Path) -> None:
    done = fetch(tmp_path, wheel, requirement="toy==2.0")
    assert "toy==2.0: pip found no such wheel" in one_line(done)
    assert done.returncode == 2


def test_without_a_network_the_stage_ends_soon_and_says_so(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    began = time.monotonic()
    done = fetch(tmp_path, wheel, NOWHERE)
    assert time.monotonic() - began < 30
    assert done.returncode == 4
    assert "check name, version and network" in one_line(done)
    assert left(tmp_path) == []
