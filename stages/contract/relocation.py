"""Let MLflow's store follow its project, which was renamed, moved or copied."""

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import unquote

from stages.contract import location

PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow(file: Path) -> None:
    """Let a store of this project name the artifacts beside it.

    MLflow writes down whole paths. A path changes only if the project has the same folder.
    """
    ours = f"{location.home()}/{location.ARTIFACTS}/"
    with contextlib.closing(sqlite3.connect(file)) as stored:
        if not stored.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"
        ).fetchone():
            return  # the store is new, or of an MLflow that will migrate it
        old = _elsewhere(stored, ours)
        with stored:
            for before in old:
                _rename(stored, before, ours)


def _elsewhere(stored: sqlite3.Connection, ours: str) -> set[str]:
    """Return the folders, as written, of artifacts that are not there but in ours."""
    named = [
        str(place)
        for (place,) in stored.execute("SELECT artifact_location FROM experiments")
        if place
    ]
    parted = [
        re.fullmatch(rf"((?:file://)?)(/.*?/{location.ARTIFACTS}/)([^/]+)/?", place)
        for place in named
    ]
    return {
        of[1] + of[2]
        for of in parted
        if of and unquote(of[2]) != ours and Path(ours, of[3]).is_dir()
    }


def _rename(stored: sqlite3.Connection, before: str, ours: str) -> None:
    """Write our folder of artifacts in the place of another, wherever MLflow names that."""
    after = Path(ours).as_uri() + "/" if before.startswith("file://") else ours
    for table, column in PLACES.items():
        # The names of the tables and columns are Refit's own.
        moved = (
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
            f"WHERE substr({column}, 1, ?) = ?"
        )
        stored.execute(moved, (after, len(before) + 1, len(before), before))
