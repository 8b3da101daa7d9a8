"""Read what DVC knows of raw data.

That is the place of its cache, and the hash of each file that data/raw/NAME.dvc tracks.
"""

import configparser
import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from stages.contract.errors import DagError, ReceiptError
from stages.contract.escape import extract, one_line
from stages.contract.settings import read_yaml

OF_USER = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"), "dvc/config")
CONFIGS = (Path("/etc/xdg/dvc/config"), OF_USER, Path(".dvc/config"), Path(".dvc/config.local"))


def md5(path: Path) -> str:
    """Return the hex md5 of a file's bytes, which is DVC's hash of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def store() -> Path:
    """Return the folder of DVC's cache, as DVC's settings name it.

    It is another one if a cache is shared. The last settings file that names one decides (DVC,
    config).
    """
    place = Path(".dvc/cache")
    for path in CONFIGS:
        config = configparser.ConfigParser(interpolation=None)
        try:
            config.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise DagError(f"{path}: {one_line(error, 200)}; mend it, or remove it") from None
        if named := config.get("cache", "dir", fallback=None):
            place = path.parent / named
    return place


@cache
def real_store() -> Path:
    """Return the same folder without links.

    A link into it is DVC's own file, if cache.type says symlink.
    """
    return store().resolve()


def require(folder: Path) -> None:
    """Raise ReceiptError if a file of data/raw/NAME differs from what data/raw/NAME.dvc tracks.

    DVC trusts an object of its cache by its mode, so that a flipped bit would be learned from. A
    list in DVC's cache names a folder's files; without that list nothing can be said about them.
    """
    for file, of in listed(folder).items():
        if file.is_file() and md5(file) != of:
            raise ReceiptError(
                f"{extract(file)}: its bytes are not those that {stated(folder)} tracks; "
                f"if you changed it say `dvc add {folder}`, else bring it back: "
                f"remove it and {extract(store() / 'files/md5' / of[:2] / of[2:])}, "
                "then `dvc pull` or `dvc checkout`"
            )


def listed(folder: Path) -> dict[Path, str]:
    """Return the md5 of each file that data/raw/NAME.dvc tracks; of none if DVC's list is away."""
    if not stated(folder).is_file():
        return {}
    found = dict[Path, str]()
    for out in _outs(stated(folder), folder):
        found |= _files(folder.parent / str(out.get("path", "")), str(out.get("md5", "")))
    return found


def stated(folder: Path) -> Path:
    """Return the file in which DVC says what a folder of data/raw has."""
    return folder.with_name(f"{folder.name}.dvc")


def _outs(stated: Path, folder: Path) -> list[dict[str, Any]]:
    """Return what a .dvc file lists; raises DagError if DVC did not write it."""
    document = read_yaml(stated)
    outs = document.get("outs") if isinstance(document, dict) else None
    if not isinstance(outs, list) or not all(isinstance(out, dict) for out in outs):
        raise DagError(
            f"{stated}: lists no outs, as DVC writes them; "
            f"bring it back (`git checkout {stated}`), or say `dvc add {folder}`"
        )
    return outs


def _files(path: Path, wanted: str) -> dict[Path, str]:
    """Return the md5 of a tracked file, or of each file in a tracked folder."""
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", wanted):  # a remote's own mark, such as an etag
        return {}
    if not wanted.endswith(".dir"):
        return {path: wanted}
    listed = store() / "files/md5" / wanted[:2] / wanted[2:]
    if not listed.is_file() or f"{md5(listed)}.dir" != wanted:
        return {}
    files: list[dict[str, Any]] = json.loads(listed.read_text("utf-8"))
    return {path / of["relpath"]: of["md5"] for of in files}
