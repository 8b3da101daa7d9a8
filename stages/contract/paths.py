"""Keep the paths that data names inside the folder for which they were named."""

import stat
from pathlib import Path

from stages.contract import tracked
from stages.contract.errors import TableError
from stages.contract.escape import extract


def inside(folder: Path, name: str) -> Path:
    """Return folder/name, a regular file whose links stay inside the folder.

    Raises TableError for anything else.
    """
    path = folder / name
    if not path.exists():
        have = (
            ", ".join(sorted(extract(p.name) for p in path.parent.iterdir())[:20])
            if path.parent.is_dir()
            else "no such folder"
        )
        raise TableError(f"{path}: is not there (found: {have}); mend data.layout in params.yaml")
    if not regular(path, folder):
        raise TableError(
            f"{path}: is not a regular file inside {folder}; copy the file itself there"
        )
    return path


def regular(path: Path, folder: Path) -> bool:
    """Return whether a path is a regular file inside the folder, or links to one in DVC's cache."""
    real = path.resolve()
    return any(
        real.is_relative_to(root) for root in (folder.resolve(), tracked.real_store())
    ) and stat.S_ISREG(path.stat().st_mode)
