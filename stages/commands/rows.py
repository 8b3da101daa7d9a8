"""Reads rows that have no label: a table of texts, or the pictures of a folder."""

from pathlib import Path

import pandas as pd

from stages.commands import guess, walk
from stages.contract import plugins
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.contract.params import Encoding, Table, Task
from stages.layouts import table


def read(source: Path, column: str | None, task: Task, modality: str) -> pd.DataFrame:
    """Return a row for each row of a table or, for a model of pictures, each picture of a folder."""
    of_x = plugins.modality(modality)
    if not source.is_dir() and table.suffix(source) in table.UNLABELLED:
        encoding = "utf-8" if table.written(source) == "utf-8" else task.data.encoding  # as what the model has learned from, or UTF-8
        return table.read_unlabelled(source, column or _column(source, encoding, task), encoding, of_x)
    if modality != "image":
        raise TableError(f"{extract(source)}: the model reads texts; name a table of them ({', '.join(table.UNLABELLED)})")
    root = source if source.is_dir() else source.parent
    files = pd.Series([root / file for file in walk.walk(source, hidden=False).files if file.suffix.lower() in guess.PICTURES], dtype=object)
    if files.empty:
        raise TableError(f"{extract(source)}: holds no picture ({', '.join(guess.PICTURES)})")
    return of_x.read(files, task.data.encoding).assign(y="", origin=[path.relative_to(root).as_posix() for path in files], meta="{}")


def _column(source: Path, encoding: Encoding, task: Task) -> str:
    """Return the column that the task is trained on, or else the only one there is."""
    names, layout = table.header(source, encoding, None), task.data.layout
    trained = [layout.columns.x] if isinstance(layout, Table) else []
    fitting = [name for name in trained if name in names] or names
    if len(fitting) != 1:
        found = ", ".join(extract(name) for name in names[:50]) or "none"
        raise TableError(f"{extract(source)}: cannot tell which column is the text (found: {found}); name it: --text COLUMN")
    return fitting[0]
