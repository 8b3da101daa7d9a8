"""Guess which columns of a table hold x and y."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stages.commands.problems import MAX_LABELS
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.layouts import table
from stages.params.data import Columns, Dialect

Names = str | tuple[str, ...] | None  # of y: one column, several, or none that the user named
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
SHOWN = 30  # columns


def peek(path: Path, dialect: Dialect | None = None) -> pd.DataFrame:
    """Return the first rows of a table."""
    return table.peek(path, table.written(path) or "utf-8", PEEKED, dialect)


def of_longest(root: Path, heads: dict[Path, pd.DataFrame], x: str | None, y: Names) -> Columns:
    """Return the columns of the longest table that has them; another table may be unlabelled."""
    wrong = list[TableError]()
    for file in sorted(heads, key=lambda file: (-len(heads[file]), file)):
        try:
            return Columns(*_columns(root / file, heads[file], x, y))
        except TableError as error:
            wrong.append(error)
    raise wrong[0]


def _columns(
    path: Path, head: pd.DataFrame, x: str | None, y: Names
) -> tuple[str, str | tuple[str, ...]]:
    # a column without a name is neither x nor y
    names = [str(name) for name in head.columns if str(name).strip()]
    shown = ", ".join(_shown(head)) or "none"
    _require_once(path, names, x, _each(y), shown)
    text = {name: head[name].dropna().astype(str) for name in names}
    others = {name: of for name, of in text.items() if name not in (x, *_each(y))}
    y = y or _named(others, Y_NAMES) or _one([name for name in others if _repeats(text[name])])
    others = {name: of for name, of in others.items() if name not in _each(y)}
    x = x or _named(others, X_NAMES) or _longest(others)
    if x is None or y is None:
        lacking = " and ".join(
            what for what, name in (("the text", x), ("the label", y)) if name is None
        )
        raise TableError(
            f"{extract(path)}: cannot tell which column is {lacking} (found: {shown}); name them: "
            "--text COLUMN --label COLUMN"
        )
    _require_header(path, text, _each(y), shown)
    return x, y


def _each(y: Names) -> tuple[str, ...]:
    return (y,) if isinstance(y, str) else (y or ())


def _require_once(
    path: Path, names: list[str], x: str | None, y: tuple[str, ...], shown: str
) -> None:
    """Raise TableError unless the columns that are named, and all others, occur there once."""
    for name in (x, *y):
        if name is not None and names.count(name) != 1:
            raise TableError(
                f"{extract(path)}: column '{extract(name)}' occurs {names.count(name)} times "
                f"(found: {shown})"
            )
    if x is not None and x in y:
        raise TableError(
            f"{extract(path)}: column '{extract(x)}' is named as the text and as the label; name "
            f"two (found: {shown})"
        )
    if any(names.count(name) > 1 for name in names):
        raise TableError(
            f"{extract(path)}: a column's name occurs twice (found: {shown}); name each once"
        )


def _require_header(
    path: Path, text: "dict[str, pd.Series[str]]", y: tuple[str, ...], shown: str
) -> None:
    """Raise TableError if the name of a column of y occurs in a row of it too."""
    if named := [name for name in y if name in set(text[name])]:
        raise TableError(
            f"{extract(path)}: its first line looks like data, not like a header "
            f"({extract(named[0])} occurs in a row too; found: {shown}); put a line of column "
            "names before it"
        )


def _named(columns: "dict[str, pd.Series[str]]", names: tuple[str, ...]) -> str | None:
    """Return the column that has the first of these names that a column has."""
    return next((name for known in names for name in columns if name.lower() == known), None)


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
    for i, name in enumerate(head.columns[:SHOWN]):
        number = head.iloc[:, i].dropna().astype(str).nunique()
        yield (
            f"{extract(name)} ({number:,} value{'s' if number != 1 else ''} in {len(head):,} rows)"
        )
