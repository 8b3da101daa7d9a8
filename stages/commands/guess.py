"""Guess how the samples of a data set are laid out.

They are in a folder for each label, or in tables; for tables, guess what each column means.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import encodings, manifest, paths, plugins
from stages.contract.cells import as_list
from stages.contract.errors import DataError, TableError
from stages.contract.escape import extract
from stages.layouts import folders, table
from stages.params.data import Columns, DataFile, Dialect, Folder, Folders, Table
from stages.params.types import Encoding, Part

TEXTS = (".txt",)
PICTURES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# How pictures begin, for files whose names say nothing; a WEBP has its name at byte 8.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")
PARTS: dict[str, Part] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
X_NAMES = (
    "text",
    "texts",
    "sentence",
    "question",
    "utterance",
    "query",
    "content",
    "review",
    "message",
    "comment",
    "body",
    "document",
    "tweet",
    "title",
    "file",
    "filename",
    "path",
    "image",
    "picture",
)
Y_NAMES = (
    "label",
    "labels",
    "category",
    "class",
    "intent",
    "sentiment",
    "target",
    "topic",
    "topics",
    "tag",
    "tags",
    "rating",
    "score",
    "y",
)
PEEKED = 5_000  # rows
TRIED = 50  # cells that may name files
MOST_BYTES, NAME_BYTES = 4096, 255  # of a path and of each name in it: the limits of Linux
SEPARATORS = {"a comma": ",", "a bar": "|", "a semicolon": ";"}  # between the labels of one cell
SEVERAL = 0.05  # of the rows: if there are fewer, they are names with a comma in them
MAX_LABELS = 1_000
FEW_NUMBERS = 20  # different ones, for example stars, are labels unless the user says otherwise
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
MULTI_LABEL: dict[str, Any] = {
    "name": "multi_label",
    "labels": None,
    "separator": "|",
    "unlabelled": False,
}
COLUMNS_SHOWN = 30


def layout(
    root: Path, files: list[Path], x: str | None, y: str | tuple[str, ...] | None
) -> Table | Folders:
    """Return how the samples of a folder are laid out.

    files are relative to the folder; x and y are columns that the user named. Raises TableError if
    nothing is readable, or if the columns cannot be determined; its message lists those found.
    """
    seen = [file for file in files if not folders.is_junk(file)]
    tables = [file for file in seen if is_table(file)]
    of_kinds = {
        TEXTS: [file for file in seen if file.suffix.lower() in TEXTS and len(file.parts) > 1],
        PICTURES: [file for file in seen if len(file.parts) > 1 and is_picture(root / file)],
    }
    suffixes, samples = max(of_kinds.items(), key=lambda item: len(item[1]))
    named = suffixes == PICTURES and (
        len({file.parent for file in samples}) == 1
        or any(_names_pictures(root / file) for file in tables)
    )
    if tables and (named or len(tables) >= len(samples)):
        found = _tables(root, tables, x, y)
        if of_kinds[PICTURES]:
            _require_whole_names(root, found, of_kinds[PICTURES])
        return found
    if samples and (x or y):
        raise TableError(
            f"{extract(root)}: holds a folder a label, which has no columns; leave --text and "
            "--label out"
        )
    if samples:
        return _folders(root, samples, tuple(sorted({file.suffix.lower() for file in samples})))
    kinds = {
        kind: len(list(of))
        for kind, of in groupby(sorted(file.suffix.lower() or "without a suffix" for file in seen))
    }
    held = (
        ", ".join(
            f"{number:,} {extract(kind)}"
            for kind, number in sorted(kinds.items(), key=lambda item: -item[1])[:10]
        )
        or "hidden files only"
    )
    raise TableError(
        f"{extract(root)}: no file that Refit reads (found: {held}); bring a table "
        f"({', '.join(table.TABLES)}), or a folder of .txt or of pictures a label"
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
    path, cells = _first_cells(root, layout)
    return len(cells) > 0 and sum(_is_picture_of(path, cell) for cell in cells) > len(cells) / 2


def is_picture(path: Path) -> bool:
    """Say whether a file is a picture, by its name or, if that says nothing, by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in (*PICTURES, *TEXTS, *table.TABLES, ".gz") or not path.is_file():
        return suffix in PICTURES
    with path.open("rb") as file:
        first = file.read(12)
    return first.startswith(MAGIC) or (first[:4] == b"RIFF" and first[8:] == b"WEBP")


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


def problem(y: "pd.Series[str]", columns: int, where: str) -> tuple[dict[str, Any], str | None]:
    """Return the settings of the problem that the cells of y look like, and a reason.

    The reason is None if the problem is one label a row. y has several columns if `columns` is more
    than one. Raises DataError for numbers that may be values or names of classes.
    """
    if columns > 1:
        return MULTI_LABEL, f"{columns} columns of labels"
    if len(y) and y.map(lambda cell: as_list(str(cell)) is not None).mean() > 0.5:
        return MULTI_LABEL, f"labels are lists (such as {extract(y.iloc[0])})"
    if several := separated(y):
        mark, line = several
        return MULTI_LABEL | {"separator": mark}, line
    values = y.str.strip().unique()
    if len(values) > FEW_NUMBERS and all(NUMBER.fullmatch(value) for value in values):
        numbers = sorted(map(float, values))
        if numbers not in (
            [*map(float, range(len(numbers)))],
            [*map(float, range(1, len(numbers) + 1))],
        ):
            raise DataError(
                f"{where}: labels are numbers, {len(numbers):,} different ones from "
                f"{numbers[0]:g} to {numbers[-1]:g}: say --problem regression where they measure "
                "something, --problem classification where they name classes"
            )
    return {"name": "classification", "labels": None}, None


def separated(y: "pd.Series[str]") -> tuple[str, str] | None:
    """Return the separator, and a line about it, if cells of labels look like several labels each.

    They do if the labels between the separators are in other cells too.
    """
    cells = y.str.strip()
    for spelled, mark in SEPARATORS.items():
        parts = cells.str.split(mark, regex=False).map(
            lambda of: frozenset(part.strip() for part in of)
        )
        many = parts.map(len) > 1
        if many.mean() < SEVERAL:
            continue
        cells_of = Counter(part for of in set(parts) for part in of)
        shared = [of for of in set(parts[many]) if any(cells_of[part] > 1 for part in of)]
        if len(shared) > len(set(parts[many])) / 2:
            detail = f"parted by {spelled} (such as {extract(cells[many].iloc[0])})"
            return mark, f"{int(many.sum()):,} of {len(y):,} labels look like several, {detail}"
    return None


def _first_cells(root: Path, layout: Table) -> "tuple[Path, pd.Series[str]]":
    """Return the path of the first table and the first cells of its column x."""
    path = root / layout.files[0].path
    return path, _peek(path, layout.dialect)[layout.columns.x].dropna().astype(str)[:TRIED]


def _require_whole_names(root: Path, layout: Table, pictures: list[Path]) -> None:
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


def _names_pictures(path: Path) -> bool:
    """Say whether a column of a table names pictures that exist."""
    head = _peek(path)
    columns = [head.iloc[:TRIED, i].dropna().astype(str) for i in range(head.shape[1])]
    return any(
        len(of) > 0
        and sum(_is_picture_of(path, cell) and (path.parent / cell).is_file() for cell in of)
        > len(of) / 2
        for of in columns
    )


def is_table(file: Path) -> bool:
    """Say whether a file's name is the name of a table."""
    return table.suffix(file) in table.TABLES


def _folders(root: Path, texts: list[Path], suffixes: tuple[str, ...]) -> Folders:
    tops = sorted(
        {file.parts[0] for file in texts},
        key=lambda top: (manifest.PARTS.index(PARTS.get(top.lower(), "test")), top),
    )
    in_parts = all(top.lower() in PARTS for top in tops)
    found = (
        tuple(Folder(top, PARTS[top.lower()]) for top in tops) if in_parts else (Folder(".", None),)
    )
    labels = {file.parts[1] for file in texts if len(file.parts) > 2} if in_parts else set(tops)
    if not labels:
        raise TableError(
            f"{extract(root)}: {', '.join(map(extract, tops))} hold samples and no folder a label"
        )
    if len(labels) < 2:
        raise TableError(
            f"{extract(root)}: holds samples of one folder, {extract(min(labels))}; a folder a "
            "label is read, two at least"
        )
    return Folders("folders", found, suffixes)


def _tables(root: Path, files: list[Path], x: str | None, y: str | tuple[str, ...] | None) -> Table:
    written = {
        file: table.dialect(root / file, table.written(root / file) or "utf-8") for file in files
    }
    heads = {file: _peek(root / file, written[file]) for file in files}
    columns = _first(root, heads, x, y)
    readable = [
        file for file, head in heads.items() if {columns.x, *columns.ys} <= set(head.columns)
    ]
    parts: dict[Path, Part | None] = {file: _part(file) for file in readable}
    if "train" in parts.values():
        # another table beside train and test is not data but, for example, a list of labels
        readable = [file for file in readable if parts[file]]
    else:
        parts = dict[Path, Part | None].fromkeys(readable)
    readable = [file for file in readable if written[file] == written[readable[0]]]
    readable.sort(key=lambda file: manifest.PARTS.index(parts[file] or "train"))
    return Table(
        "table",
        tuple(DataFile(file.as_posix(), parts[file], None) for file in readable),
        columns,
        written[readable[0]],
    )


def _peek(path: Path, dialect: Dialect | None = None) -> pd.DataFrame:
    return table.peek(path, table.written(path) or "utf-8", PEEKED, dialect)


def wanted(root: Path, files: list[Path], layout: Table | Folders, pictures: bool) -> list[Path]:
    """Return the files that a layout reads.

    These are its tables and the pictures that they name, or the files in the folders of labels.
    """
    if isinstance(layout, Table):
        tables = [Path(file.path) for file in layout.files]
        return [
            *tables,
            *(
                file
                for file in files
                if pictures and is_picture(root / file) and not folders.is_junk(file)
            ),
        ]
    roots = [Path(folder.path) for folder in layout.folders]
    files = [file for file in files if not folders.is_junk(file)]
    return [
        file
        for file in files
        if any(
            file.is_relative_to(root) and len(file.parts) - len(root.parts) > 1 for root in roots
        )
    ]


def _first(
    root: Path, heads: dict[Path, pd.DataFrame], x: str | None, y: str | tuple[str, ...] | None
) -> Columns:
    """Return the columns of the longest table that has them; another table may be unlabelled."""
    wrong = list[TableError]()
    for file in sorted(heads, key=lambda file: (-len(heads[file]), file)):
        try:
            return Columns(*_columns(root / file, heads[file], x, y))
        except TableError as error:
            wrong.append(error)
    raise wrong[0]


def _part(file: Path) -> Part | None:
    """Return the part in a file's name, as in train-00000-of-00002.parquet or data/test.csv."""
    words = re.split(r"[^a-z]+", file.as_posix().lower())
    found: set[Part] = {PARTS[word] for word in words if word in PARTS}
    return next(iter(found)) if len(found) == 1 else None


def _columns(
    path: Path, head: pd.DataFrame, x: str | None, y: str | tuple[str, ...] | None
) -> tuple[str, str | tuple[str, ...]]:
    # a column without a name is neither x nor y
    names = [str(name) for name in head.columns if str(name).strip()]
    shown, stated = ", ".join(_shown(head)) or "none", (y,) if isinstance(y, str) else (y or ())
    for name in (x, *stated):
        if name is not None and names.count(name) != 1:
            raise TableError(
                f"{extract(path)}: column '{extract(name)}' stands {names.count(name)} times "
                f"(found: {shown})"
            )
    if x is not None and x in stated:
        raise TableError(
            f"{extract(path)}: column '{extract(x)}' is named as the text and as the label; name "
            f"two (found: {shown})"
        )
    if any(names.count(name) > 1 for name in names):
        raise TableError(
            f"{extract(path)}: a column's name stands twice (found: {shown}); name each once"
        )
    text = {name: head[name].dropna().astype(str) for name in names}
    others = {name: of for name, of in text.items() if name not in (x, *stated)}
    y = (
        y
        or _one([n for w in Y_NAMES for n in others if n.lower() == w][:1])
        or _one([n for n in others if _repeats(text[n])])
    )
    stated = (y,) if isinstance(y, str) else (y or ())
    others = {name: of for name, of in others.items() if name not in stated}
    x = x or _one([n for w in X_NAMES for n in others if n.lower() == w][:1]) or _longest(others)
    if x is None or y is None:
        lacking = " and ".join(
            what for what, name in (("the text", x), ("the label", y)) if name is None
        )
        raise TableError(
            f"{extract(path)}: cannot tell which column is {lacking} (found: {shown}); name them: "
            "--text COLUMN --label COLUMN"
        )
    if named := [name for name in stated if name in set(text[name])]:
        raise TableError(
            f"{extract(path)}: its first line looks like data, not like a header "
            f"({extract(named[0])} stands in a row too; found: {shown}); put a line of column "
            "names before it"
        )
    return x, y


def _repeats(values: "pd.Series[str]") -> bool:
    """Say whether a column looks like labels: few short values, each several times."""
    return (
        2 <= values.nunique() <= min(MAX_LABELS, len(values) / 3) and values.str.len().mean() < 60
    )


def _longest(text: "dict[str, pd.Series[str]]") -> str | None:
    """Return the column of the longest values, if they are twice as long as any other column's."""
    lengths = sorted(
        ((values.str.len().mean(), name) for name, values in text.items() if len(values)),
        reverse=True,
    )
    return (
        lengths[0][1]
        if lengths and (len(lengths) == 1 or lengths[0][0] > 2 * lengths[1][0])
        else None
    )


def _one(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _shown(head: pd.DataFrame) -> Iterator[str]:
    for i, name in enumerate(head.columns[:COLUMNS_SHOWN]):
        number = head.iloc[:, i].dropna().astype(str).nunique()
        yield (
            f"{extract(name)} ({number:,} value{'s' if number != 1 else ''} in {len(head):,} rows)"
        )
