"""Guess how the samples of a data set are laid out: a folder a label, or in tables."""

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from stages.commands import columns, pictures
from stages.commands.pictures import TEXTS
from stages.contract import encodings, manifest
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.layouts import folders, table
from stages.params.data import DataFile, Folder, Folders, Table
from stages.params.types import Encoding, Part

PARTS: dict[str, Part] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """How data that lies in a folder or a table is laid out.

    files are all of its files, and wanted those that the layout reads, relative to root(lies).
    """

    lies: Path
    files: list[Path]
    wanted: list[Path]
    layout: Table | Folders
    encoding: Encoding
    of_pictures: bool

    @property
    def unread(self) -> list[str]:
        """The tables that were left aside."""
        return [
            file.as_posix() for file in self.files if is_table(file) and file not in self.wanted
        ]


def data(lies: Path, files: list[Path], x: str | None, y: columns.Names) -> Guess:
    """Return how data is laid out; x and y are columns that the user named."""
    of = layout(root(lies), files, x, y)
    pictured = of_pictures(root(lies), of)
    read = wanted(root(lies), files, of, pictured)
    written = encoding(root(lies), of, read)
    if pictured and lies.is_file() and isinstance(of, Table):
        # the files that a table names belong to it
        read += pictures.named_by(root(lies), of, written)
    return Guess(lies, files, read, of, written, pictured)


def root(lies: Path) -> Path:
    """Return the folder that file names are relative to: the data itself, or a table's folder."""
    return lies if lies.is_dir() else lies.parent


def layout(root: Path, files: list[Path], x: str | None, y: columns.Names) -> Table | Folders:
    """Return how the samples of a folder are laid out.

    files are relative to the folder; x and y are columns that the user named. Raises TableError if
    nothing is readable, or if the columns cannot be determined; its message lists those found.
    """
    seen = [file for file in files if not folders.is_junk(file)]
    tables = [file for file in seen if is_table(file)]
    below = [file for file in seen if len(file.parts) > 1]
    texts = [file for file in below if file.suffix.lower() in TEXTS]
    pictured = [file for file in below if pictures.is_picture(root / file)]
    samples = texts if len(texts) >= len(pictured) else pictured
    named = samples is pictured and _named(root, tables, pictured)
    if tables and (named or len(tables) >= len(samples)):
        found = _tables(root, tables, x, y)
        if pictured:
            pictures.require_whole_names(root, found, pictured)
        return found
    if not samples:
        raise TableError(_unread(root, seen))
    if x or y:
        raise TableError(
            f"{extract(root)}: has a folder for each label, which has no columns; leave --text and "
            "--label out"
        )
    return _folders(root, samples)


def _named(root: Path, tables: list[Path], pictured: list[Path]) -> bool:
    """Say whether tables, and not folders, say what pictures are."""
    return len({file.parent for file in pictured}) == 1 or any(
        pictures.in_cells(root / file) for file in tables
    )


def _unread(root: Path, files: list[Path]) -> str:
    """Say that no file is read, and what there is."""
    suffixes = sorted(file.suffix.lower() or "without a suffix" for file in files)
    kinds = {kind: len(list(of)) for kind, of in groupby(suffixes)}
    most = sorted(kinds.items(), key=lambda item: -item[1])[:10]
    held = ", ".join(f"{number:,} {extract(kind)}" for kind, number in most)
    return (
        f"{extract(root)}: no file that Refit reads (found: {held or 'hidden files only'}); bring "
        f"a table ({', '.join(table.TABLES)}), or a folder of .txt or of pictures a label"
    )


def encoding(root: Path, layout: Table | Folders, samples: list[Path]) -> Encoding:
    """Return the encoding of the tables, or of the samples that are texts."""
    if isinstance(layout, Table):
        found = [table.written(root / file.path) for file in layout.files]
    else:
        found = [
            encodings.recognise(
                (root / file).read_bytes() for file in samples if file.suffix.lower() in TEXTS
            )
        ]
    return "gb18030" if "gb18030" in found else "utf-8"


def of_pictures(root: Path, layout: Table | Folders) -> bool:
    """Say whether the samples are pictures.

    Pictures are files of a folder, or files that the column x of a table names.
    """
    if isinstance(layout, Folders):
        return not set(layout.suffixes) & set(TEXTS)
    return pictures.of_table(root, layout)


def is_table(file: Path) -> bool:
    """Say whether a file's name is the name of a table."""
    return table.suffix(file) in table.TABLES


def _folders(root: Path, files: list[Path]) -> Folders:
    tops = sorted(
        {file.parts[0] for file in files},
        key=lambda top: (manifest.PARTS.index(PARTS.get(top.lower(), "test")), top),
    )
    if all(top.lower() in PARTS for top in tops):
        found = tuple(Folder(top, PARTS[top.lower()]) for top in tops)
        labels = {file.parts[1] for file in files if len(file.parts) > 2}
    else:
        found, labels = (Folder(".", None),), set(tops)
    if not labels:
        raise TableError(
            f"{extract(root)}: {', '.join(map(extract, tops))} hold samples and no folder a label"
        )
    if len(labels) < 2:
        raise TableError(
            f"{extract(root)}: has samples of one folder, {extract(min(labels))}; a folder a "
            "label is read, two at least"
        )
    return Folders("folders", found, tuple(sorted({file.suffix.lower() for file in files})))


def _tables(root: Path, files: list[Path], x: str | None, y: columns.Names) -> Table:
    written = {
        file: table.dialect(root / file, table.written(root / file) or "utf-8") for file in files
    }
    heads = {file: columns.peek(root / file, written[file]) for file in files}
    held = columns.of_longest(root, heads, x, y)
    readable = [file for file, head in heads.items() if {held.x, *held.ys} <= set(head.columns)]
    parts = _parts(readable)
    dialect = written[next(iter(parts))]
    same = [file for file in parts if written[file] == dialect]
    same.sort(key=lambda file: manifest.PARTS.index(parts[file] or "train"))
    data = tuple(DataFile(file.as_posix(), parts[file], None) for file in same)
    return Table("table", data, held, dialect)


def _parts(files: list[Path]) -> dict[Path, Part | None]:
    """Return the part of each table: the one in its name if there is a train, else none.

    Another table beside train and test is left out: it is not data but, for example, a list of
    labels.
    """
    parts: dict[Path, Part | None] = {file: part(file) for file in files}
    if "train" in parts.values():
        return {file: part for file, part in parts.items() if part}
    return dict[Path, Part | None].fromkeys(files)


def part(file: Path) -> Part | None:
    """Return the part in a file's name, as in train-00000-of-00002.parquet or data/test.csv."""
    words = re.split(r"[^a-z]+", file.as_posix().lower())
    found: set[Part] = {PARTS[word] for word in words if word in PARTS}
    return next(iter(found)) if len(found) == 1 else None


def wanted(root: Path, files: list[Path], layout: Table | Folders, pictured: bool) -> list[Path]:
    """Return the files that a layout reads.

    These are its tables and the pictures that they name, or the files in the folders of labels.
    """
    clean = [file for file in files if not folders.is_junk(file)]
    if isinstance(layout, Table):
        tables = [Path(file.path) for file in layout.files]
        named = (file for file in clean if pictured and pictures.is_picture(root / file))
        return [*tables, *named]
    roots = [Path(folder.path) for folder in layout.folders]
    return [file for file in clean if any(_is_labelled(file, root) for root in roots)]


def _is_labelled(file: Path, root: Path) -> bool:
    """Say whether a file is in a folder of a label below root."""
    return file.is_relative_to(root) and len(file.parts) - len(root.parts) > 1
