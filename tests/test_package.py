"""A source out of a wheel: real pip, a real wheel made here, no network."""

import base64
import hashlib
import json
import os
import stat
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.contract.errors import SourceError
from stages.contract.receipts import sha256
from stages.params.sources import Package
from stages.sources import package
from tests.conftest import Project, flows

FILES = {
    "toy/data/a.csv": "text,label\nfine,good\n",
    "toy/data/below/b.txt": "b",
    "toy/__init__.py": "raise SystemExit('code of a source was run')\n",
}
METADATA = {
    "toy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
    "toy-1.0.dist-info/WHEEL": (
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ),
}
NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_CONFIG_FILE": os.devnull,
}


def pack(folder: Path, files: dict[str, Any]) -> Path:
    """Write a real wheel into a folder of its own.

    `files` maps each name to its content; a symbolic link is (target,).
    """
    path = folder / "wheels" / "toy-1.0-py3-none-any.whl"
    path.parent.mkdir()
    held = {n: c.encode() if isinstance(c, str) else c for n, c in (files | METADATA).items()}
    plain = {n: c for n, c in held.items() if isinstance(c, bytes)}
    digests = {
        n: base64.urlsafe_b64encode(hashlib.sha256(c).digest()).rstrip(b"=").decode()
        for n, c in plain.items()
    }
    record = (
        "".join(f"{n},sha256={digests[n]},{len(c)}\n" for n, c in plain.items())
        + "toy-1.0.dist-info/RECORD,,\n"
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (held | {"toy-1.0.dist-info/RECORD": record.encode()}).items():
            member = zipfile.ZipInfo(name)
            if isinstance(content, tuple):
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, content[0] if isinstance(content, tuple) else content)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return a real wheel in a folder of its own."""
    return pack(tmp_path, FILES)


def fetch(
    folder: Path,
    wheel: Path,
    environment: dict[str, str] | None = None,
    kind: dict[str, Any] | None = None,
    **change: Any,
) -> Any:
    """Run the stage in a folder with nothing but params.yaml."""
    origin = {
        "name": "package",
        "requirement": "toy==1.0",
        "sha256": sha256(wheel),
        "root": "toy/data",
        "members": ["a.csv", "below/b.txt"],
        "seconds": 60.0,
    }
    YAML().dump(
        {
            "flows": flows(),
            "sources": {
                "toy": {
                    "origin": origin | change,
                    "format": kind or {"name": "as_is"},
                    "licence": "CC0",
                }
            },
            "tasks": {},
        },
        folder / "params.yaml",
    )
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent), "PIP_CONFIG_FILE": os.devnull}
    root = str(Path(__file__).parent.parent)
    return Project(folder).stage(
        "fetch", "toy", ok=False, PYTHONPATH=root, **(pip if environment is None else environment)
    )


def one_line(done: Any) -> str:
    """Return the one line of a stage that refuses; it says nothing else and leaves nothing."""
    assert done.returncode
    assert done.stderr.startswith("refit: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def left(folder: Path) -> list[Path]:
    return [p for p in (folder / "data").rglob("*") if p.is_file() and p.name != "lock"]


def test_members_are_written_with_their_origin_sha256_and_licence(
    tmp_path: Path, wheel: Path
) -> None:
    done = fetch(tmp_path, wheel)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data/raw/toy"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "a.csv",
        "below/b.txt",
        "source.json",
    }
    assert (folder / "a.csv").read_text() == FILES["toy/data/a.csv"]
    stated = json.loads((folder / "source.json").read_text())
    assert stated["files"] == {name: sha256(folder / name) for name in ("a.csv", "below/b.txt")}
    assert stated["licence"] == "CC0"
    assert stated["origin"] == {
        "requirement": "toy==1.0",
        "wheel": wheel.name,
        "sha256": sha256(wheel),
    }


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_nothing_is_written(
    tmp_path: Path, wheel: Path
) -> None:
    done = fetch(tmp_path, wheel, sha256="0" * 64)
    line = one_line(done)
    assert done.returncode == 2
    assert "toy==1.0" in line and sha256(wheel) in line and "0" * 64 in line
    assert left(tmp_path) == []


def test_an_absent_member_is_named_with_those_found(tmp_path: Path, wheel: Path) -> None:
    done = fetch(tmp_path, wheel, members=["a.csv", "c.csv"])
    line = one_line(done)
    assert done.returncode == 2
    assert "has no toy/data/c.csv (found there: toy/data/a.csv, toy/data/below/b.txt)" in line
    assert not (tmp_path / "data/raw").exists()


def test_a_pattern_takes_all_that_it_fits_and_a_name_what_it_names(tmp_path: Path) -> None:
    images = {
        f"toy/data/images/{name}": name
        for name in ("1.png", "2.png", "deep/3.png", "notes.txt", "[a].png")
    }
    done = fetch(
        tmp_path, pack(tmp_path, FILES | images), members=["images/*.png", "a.*", "images/[a].png"]
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data/raw/toy"
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {
        "a.csv",
        "images/1.png",
        "images/2.png",
        "images/deep/3.png",
        "images/[a].png",
        "source.json",
    }
    assert (folder / "images/[a].png").read_text() == "[a].png"


def test_a_pattern_that_fits_nothing_is_named_as_an_absent_member_is(
    tmp_path: Path, wheel: Path
) -> None:
    line = one_line(fetch(tmp_path, wheel, members=["a.csv", "below/*.png", "c.csv"]))
    assert "has no toy/data/below/*.png, toy/data/c.csv (found there: toy/data/below/b.txt)" in line
    assert not (tmp_path / "data/raw").exists()


EVIL: dict[str, Any] = {
    "toy/data/../../../evil": "x", "toy/data/link": ("/etc/passwd",), "toy/data/folder/": "",
    "toy/data//double": "x", "toy/data/./dot": "x",
    "/evil": "x", "../evil": "x", "toy/data/bell\a": "x",
}  # fmt: skip


@pytest.mark.parametrize("root", ["toy/data", "."])
def test_a_pattern_passes_over_links_folders_and_names_that_lead_elsewhere(
    root: str, tmp_path: Path
) -> None:
    done = fetch(tmp_path, pack(tmp_path, FILES | EVIL), root=root, members=["*"])
    assert done.returncode == 0, done.stderr
    stated = json.loads((tmp_path / "data/raw/toy/source.json").read_text())["files"].keys()
    assert (
        {"a.csv", "below/b.txt"} == stated
        if root == "toy/data"
        else {f"toy/data/{n}" for n in ("a.csv", "below/b.txt")} < stated
    )
    everything = {p.relative_to(tmp_path) for p in tmp_path.rglob("*")}
    assert not {
        p
        for p in everything
        if p.name in ("evil", "link", "folder", "double", "dot")
        or "bell" in p.name
        or (tmp_path / p).is_symlink()
    }


@pytest.mark.parametrize("member", ["link", "folder"])
def test_a_link_or_a_folder_is_no_member_to_name(member: str, tmp_path: Path) -> None:
    assert f"has no toy/data/{member}" in one_line(
        fetch(tmp_path, pack(tmp_path, FILES | EVIL), members=["a.csv", member])
    )


@pytest.mark.parametrize(
    ("limit", "bytes_", "said"),
    [
        ("MAX_BYTES", 20, "toy/data/a.csv unpacks to 21 bytes"),
        ("MAX_SUM", 21, "selects 2 files of 22 bytes"),
    ],
)
def test_what_unpacks_to_too_much_is_refused(
    limit: str, bytes_: int, said: str, tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheel.parent),
        "PIP_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    origin = Package("package", "toy==1.0", sha256(wheel), "toy/data", ("*",), 60.0)
    into = tmp_path / "into"
    monkeypatch.setattr(package, limit, bytes_ + 1)
    package.fetch(origin, into, tmp_path)
    assert (into / "a.csv").read_text() == FILES["toy/data/a.csv"]
    monkeypatch.setattr(package, limit, bytes_)
    with pytest.raises(SourceError, match=said):
        package.fetch(origin, tmp_path / "refused", tmp_path)
    assert not (tmp_path / "refused").exists()


def test_the_name_of_refit_s_own_note_is_not_taken(tmp_path: Path) -> None:
    line = one_line(
        fetch(tmp_path, pack(tmp_path, FILES | {"toy/data/source.json": "{}"}), members=["*"])
    )
    assert "source.json is the name of Refit's note on a source" in line


def test_a_version_that_is_not_there_is_one_line(tmp_path: Path, wheel: Path) -> None:
    done = fetch(tmp_path, wheel, requirement="toy==2.0")
    assert "toy==2.0: pip found no such wheel" in one_line(done)
    assert done.returncode == 2


def test_without_a_network_the_stage_ends_soon_and_says_so(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    began = time.monotonic()
    done = fetch(tmp_path, wheel, NOWHERE)
    assert time.monotonic() - began < 30
    assert done.returncode == 4
    assert "check name, version and network" in one_line(done)
    assert left(tmp_path) == []
