"""Sign what a stage hands on, and verify it before the next stage reads it.

DVC trusts a cached object by its mode and never hashes it again, so a flipped bit must stop here.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.contract.errors import ReceiptError


def sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return name -> sha256 of each named file, and of each file below a named folder."""
    found = {}
    for name in names:
        path = folder / name
        below = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        found |= {p.relative_to(folder).as_posix(): sha256(p) for p in below}
    return dict(sorted(found.items()))


def verify(folder: Path, receipt: dict[str, str], name: str) -> dict[str, str]:
    """Check the file or folder `name` against a receipt, and return its part of the receipt.

    Raises ReceiptError as match does.
    """
    signed = {k: v for k, v in receipt.items() if k == name or k.startswith(f"{name}/")}
    match(folder, signed or {name: ""}, files(folder, [name]) if (folder / name).exists() else {})
    return signed


def match(folder: Path, signed: dict[str, str], found: dict[str, str]) -> None:
    """Raise ReceiptError for a file that was changed, is missing, or was never signed.

    Both `signed` and `found` are name -> sha256.
    """
    differing = sorted(k for k in signed.keys() | found.keys() if signed.get(k) != found.get(k))
    if differing:
        raise ReceiptError(
            f"{folder / differing[0]}: not the bytes that its receipt signed "
            f"({len(differing)} file(s) differ); "
            "remove it from DVC's cache and run its stage anew with `dvc repro -f`"
        )


def sign(folder: Path) -> None:
    """Write the receipt of everything in a folder.

    After a kill or a power cut the receipt is whole, or does not exist.
    """
    signed, beside = files(folder, ["."]), folder / ".receipt.json"
    for path in folder.rglob("*"):
        flush(path)
    write_json(beside, signed)
    flush(beside)
    beside.rename(folder / "receipt.json")
    flush(folder)


def is_signed(folder: Path) -> bool:
    """Return whether a folder contains what `sign` signed, every byte of it and nothing else."""
    try:
        signed = read_json(folder / "receipt.json")
    except (FileNotFoundError, ValueError):
        # A flipped byte may turn the receipt itself into anything but JSON.
        return False
    found = files(folder, ["."])
    del found["receipt.json"]
    return signed == found


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(document: Any) -> str:
    """Return one sha256 for JSON, such as the names of a folder's files and their sha256."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, document: Any) -> None:
    """Write JSON whose bytes are equal for equal content: sorted keys, LF, no NaN."""
    path.write_text(
        json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
        "utf-8",
    )


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote."""
    return json.loads(path.read_text("utf-8"))
