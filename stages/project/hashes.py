"""Hash files as DVC does, and look into its cache.

It says whether the cache still has data of a given hash, byte for byte.
"""

import configparser
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract import tracked
from stages.contract.errors import DataError
from stages.contract.escape import extract
from stages.contract.settings import read_yaml
from stages.project import lineage


@dataclass(frozen=True)
class Store:
    """What this project's DVC knows.

    cache is its cache, remote says whether it has a remote, and tracked has the hash of each path
    that it tracks now.
    """

    cache: Path
    remote: bool
    tracked: dict[str, str]


def store() -> Store:
    """Read this project's DVC files: its settings, dvc.lock and data/raw/NAME.dvc."""
    config = configparser.ConfigParser(interpolation=None)
    config.read([".dvc/config", ".dvc/config.local"], "utf-8")
    of_paths = {
        f"data/raw/{out['path']}": out.get("md5", "")
        for file in sorted(Path("data/raw").glob("*.dvc"))
        for out in read_yaml(file)["outs"]
    }
    of_paths |= {
        out["path"]: out["md5"]
        for stage in lineage.locked().get("stages", {}).values()
        for out in stage.get("outs", ())
    }
    return Store(
        tracked.store() / "files/md5",
        any("remote" in section for section in config.sections()),
        of_paths,
    )


def of(path: Path) -> tuple[str, frozenset[str]]:
    """Return DVC's hash of a file or folder, and the md5 of every file in it.

    The hash of a folder ends in .dir.
    """
    if not path.exists():
        raise DataError(f"{extract(path)}: is not there; name a file or a folder of data")
    if path.is_file():
        md5 = tracked.md5(path)
        return md5, frozenset([md5])
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    listed = [{"md5": tracked.md5(path / file), "relpath": file} for file in files]
    return (
        hashlib.md5(  # noqa: S324  (DVC's)
            json.dumps(listed, sort_keys=True).encode()
        ).hexdigest()
        + ".dir",
        frozenset(file["md5"] for file in listed),
    )


def listed(cache: Path, md5: str) -> frozenset[str] | None:
    """Return the md5 of every file of a folder, from the list that DVC's cache keeps of it.

    The result is null if the list is missing or damaged.
    """
    path = _object(cache, md5)
    if not path.is_file() or f"{tracked.md5(path)}.dir" != md5:
        return None
    entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return frozenset(file["md5"] for file in entries)


def cached(cache: Path, md5: str) -> tuple[bool, list[str]]:
    """Say whether the cache has everything of a hash, and name the damaged objects.

    An object is damaged if its name is not the hash of its bytes.
    """
    path = _object(cache, md5)
    inside = listed(cache, md5) if md5.endswith(".dir") else frozenset[str]()
    objects = [path, *(_object(cache, file) for file in sorted(inside or ()))]
    present = [of for of in objects if of.is_file()]
    damaged = [
        str(of)
        for of in present
        if tracked.md5(of) != of.parent.name + of.name.removesuffix(".dir")
    ]
    return len(present) == len(objects) and not damaged, damaged


def _object(cache: Path, md5: str) -> Path:
    """Return the path of a hash in the cache.

    The hash comes from a tag or a list that anybody may have written, so it is checked.
    """
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5):
        raise DataError(
            f"{extract(md5)}: is no hash of DVC's; "
            "look at who wrote the version's tags, or the list in DVC's cache"
        )
    return cache / md5[:2] / md5[2:]
