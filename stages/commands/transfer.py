"""Bring data into data/raw, where DVC tracks it: copied, imported from an address or fetched."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from stages.commands import blocks, guess
from stages.contract import walk
from stages.contract.errors import DataError, SourceError, UnreachableError
from stages.contract.escape import extract, one_line, redact
from stages.layouts import table
from stages.params.sources import AsIs, Hub, Source
from stages.project import tracking

REMOTE = re.compile(r"(https?|s3|gs)://.+")
HUB = re.compile(r"hub:([^@\s]+)(?:@(\S+))?")
SECRET = re.compile(
    r"(?i)(^|[-_&]|api|auth|access)(sig|signature|token|secret|passw(or)?d|pwd|credential|key|auth|jwt|sas)[^=&]*="
)
ANSWER = 10  # seconds that a web server may take to answer
DOWNLOAD = 3600.0  # seconds for a whole source


def partial(folder: Path) -> Path:
    """Return the folder in which a copy is made before it takes its place."""
    return folder.with_name(f".{folder.name}.partial")


def track(lies: Path, folder: Path, files: list[Path]) -> None:
    """Copy files of a folder, or one table, to data/raw, and let DVC track them there."""
    if lies.resolve() != folder.resolve():
        made = partial(folder)
        shutil.rmtree(made, ignore_errors=True)
        copy(lies, files, made)
        made.rename(folder)
    tracking.dvc("add", str(folder))


def copy(lies: Path, files: list[Path], into: Path) -> None:
    """Copy files of a folder, or one table, into a folder of data/raw, if the disk has room."""
    root = guess.root(lies)
    into.parent.mkdir(parents=True, exist_ok=True)
    walk.require_space(sum((root / file).stat().st_size for file in files), into.parent)
    for file in files:
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, into / file)


def fetch(key: str, source: Source) -> None:
    """Write a source and fetch it, so that an error in it shows now."""
    blocks.write("sources", key, source)
    tracking.dvc("repro", f"fetch@{key}")


def hub(kind: Literal["model", "dataset"], named: re.Match[str]) -> Source:
    """Return the source of a model or a data set of a hub.

    It is pinned to a commit: the one that was named, or else the one that the named branch or tag,
    or the main branch, is at now, for which the hub is asked.
    """
    pinned = re.fullmatch("[0-9a-f]{40}", named[2] or "")
    origin = {"name": "hub", "kind": kind, "repo": named[1], "revision": "0" * 40}
    origin |= {"files": ["*"], "seconds": DOWNLOAD}
    try:
        of = TypeAdapter(Hub).validate_json(json.dumps(origin))
    except ValidationError:
        raise SourceError(
            f"{extract(named[0])}: is no repo of a hub; say hub:OWNER/NAME or hub:OWNER/NAME@COMMIT"
        ) from None
    from stages.sources import hub as source

    revision = named[2] if pinned else source.commit(of.repo, kind, named[2])
    return Source(replace(of, revision=revision), AsIs("as_is"), "as the card of the repo says")


def import_address(where: str, folder: Path) -> None:
    """Import an address with DVC.

    The file data/raw/NAME.dvc keeps the address for all to read, so it must not contain a secret.
    """
    shown = redact(extract(where.partition("?")[0]))
    file = re.sub("[^A-Za-z0-9._-]", "_", Path(_path(where, folder, shown)).name)
    if where.startswith("http"):
        _require_answer(where, shown)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if guess.is_table(Path(file)):
        _import_table(where, folder, file)
    elif not where.startswith("http"):
        tracking.dvc("import-url", where, str(folder), seconds=DOWNLOAD)
    if not folder.is_dir():
        raise DataError(
            f"{shown}: its name says no table ({', '.join(table.TABLES)}, each but the last also "
            "as .gz), and it is no folder of a bucket"
        )


def _path(where: str, folder: Path, shown: str) -> str:
    """Return the path of an address, which must hold no secret."""
    try:
        address = urlsplit(where)
    except ValueError as error:
        raise SourceError(f"{shown}: is no address ({one_line(error, 100)})") from None
    if "@" in address.netloc or SECRET.search(address.query):
        raise SourceError(
            f"{shown}: contains a password or a key, which {folder}.dvc would keep for all to "
            "read; set it up with `dvc remote` or .netrc"
        )
    return address.path


def _import_table(where: str, folder: Path, file: str) -> None:
    # import-url would put the .dvc file into the folder, and it would be read as data
    tracked, name = folder.with_name(f"{folder.name}.dvc"), folder.name
    tracked.write_text(
        f"frozen: true\ndeps:\n- path: {json.dumps(where)}\nouts:\n- path: {name}/{file}\n",
        "utf-8",
    )
    tracking.dvc("update", str(tracked), seconds=DOWNLOAD)


def _require_answer(where: str, shown: str) -> None:
    """Raise if a server refuses an address, lacks it, or never answers, where DVC waits minutes."""
    import requests

    try:
        with requests.get(where, stream=True, timeout=ANSWER) as answer:
            status = answer.status_code
    except (requests.RequestException, UnicodeError) as error:
        raise UnreachableError(
            f"{shown}: no answer within {ANSWER} s ({type(error).__name__}); check address and "
            "network"
        ) from None
    if status in (401, 403):
        raise SourceError(
            f"{shown}: the server refuses it (HTTP {status}); see that you may read it"
        )
    if status >= 400:
        raise SourceError(f"{shown}: HTTP {status}; check the address")
