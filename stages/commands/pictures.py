"""Find the pictures of data: files that are pictures, and cells of tables that name them."""

import os
from pathlib import Path

import pandas as pd

from stages.commands import columns
from stages.contract import paths, plugins
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.layouts import table
from stages.params.data import Table
from stages.params.types import Encoding

TEXTS = (".txt",)
SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# How pictures begin, for files whose names say nothing; a WEBP has its name at byte 8.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")
TRIED = 50  # cells that may name files
MOST_BYTES, NAME_BYTES = 4096, 255  # of a path and of each name in it: the limits of Linux


def is_picture(path: Path) -> bool:
    """Say whether a file is a picture, by its name or, if that says nothing, by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in (*SUFFIXES, *TEXTS, *table.TABLES, ".gz") or not path.is_file():
        return suffix in SUFFIXES
    with path.open("rb") as file:
        first = file.read(12)
    return first.startswith(MAGIC) or (first[:4] == b"RIFF" and first[8:] == b"WEBP")


def of_table(root: Path, layout: Table) -> bool:
    """Say whether the column x of a table names pictures."""
    path, cells = _first_cells(root, layout)
    return len(cells) > 0 and sum(_is_picture_of(path, cell) for cell in cells) > len(cells) / 2


def named_by(root: Path, layout: Table, encoding: Encoding) -> list[Path]:
    """Return the files below root that the column x of its tables names."""
    # x of the modality text is what the cell says
    cells = table.read(root, layout, encoding, plugins.modality("text"))
    folder_of = cells["origin"].str.rpartition(":")[0].map(lambda name: Path(name).parent)
    named = {
        Path(os.path.normpath(folder / cell))
        for folder, cell in zip(folder_of, cells["x"], strict=True)
        if cell and _can_be_a_name(cell)
    }
    return sorted(
        file
        for file in named
        if (root / file).is_file() and paths.regular(root / file, root) and not file.is_absolute()
    )


def require_whole_names(root: Path, layout: Table, pictures: list[Path]) -> None:
    """Raise TableError if x names pictures only in part.

    Ids without a suffix or a folder would be taken for texts to learn from.
    """
    named = {of for picture in pictures for of in (picture.stem, picture.name, picture.as_posix())}
    path, cells = _first_cells(root, layout)
    inexact = [cell for cell in cells if not _is_picture_of(path, cell) and cell.strip() in named]
    if len(inexact) > len(cells) / 2:
        raise TableError(
            f"{extract(path)}: column '{extract(layout.columns.x)}' names pictures in part (such "
            f"as '{extract(inexact[0])}'); write the path of each, relative to the table and with "
            "its suffix"
        )


def in_cells(path: Path) -> bool:
    """Say whether a column of a table names pictures that exist."""
    head = columns.peek(path)
    cells = [head.iloc[:TRIED, i].dropna().astype(str) for i in range(head.shape[1])]
    return any(
        len(of) > 0
        and sum(_is_picture_of(path, cell) and (path.parent / cell).is_file() for cell in of)
        > len(of) / 2
        for of in cells
    )


def _first_cells(root: Path, layout: Table) -> "tuple[Path, pd.Series[str]]":
    """Return the path of the first table and the first cells of its column x."""
    path = root / layout.files[0].path
    return path, columns.peek(path, layout.dialect)[layout.columns.x].dropna().astype(str)[:TRIED]


def _is_picture_of(path: Path, cell: str) -> bool:
    """Say whether the cell of a table names a picture."""
    return _can_be_a_name(cell) and is_picture(path.parent / cell)


def _can_be_a_name(cell: str) -> bool:
    """Say whether a file system could be asked for a file that has a cell as its name.

    Texts, above all Chinese ones, soon have more bytes than a name may have.
    """
    written = cell.encode(errors="surrogatepass")
    return (
        b"\0" not in written
        and len(written) < MOST_BYTES
        and all(len(name) <= NAME_BYTES for name in written.split(b"/"))
    )
