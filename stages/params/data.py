"""Where the labelled data lies, and how."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.params.types import Encoding, Key, Part, RelativePath, Rows, Strict, Text, all_different


@dataclass(frozen=True)
class DataFile(Strict):
    """One table."""

    path: RelativePath
    """below data/raw/SOURCE: .csv, .tsv, .jsonl, each also as .gz, .parquet, or what `dialect` says"""
    part: Part | None
    """the part that the data set gives; null leaves it to split"""
    rows: Rows | None
    """first and last data row to read, from 1; null reads all"""


@dataclass(frozen=True)
class Columns(Strict):
    """Which columns are read; the others are kept in meta."""

    x: Text
    """what the model reads: a text, or the path of a file, relative to its table"""
    y: Text | Annotated[tuple[Text, ...], Field(min_length=2), AfterValidator(all_different)]
    """what it learns to say; several columns, each a label's, hold 1 where it applies and 0 where not"""

    @property
    def ys(self) -> tuple[str, ...]:
        """The columns of y."""
        return (self.y,) if isinstance(self.y, str) else self.y

    def __post_init__(self) -> None:
        if self.x in self.ys:
            raise ValueError("x and y must be two columns")


@dataclass(frozen=True)
class Dialect(Strict):
    """How a text table is written."""

    delimiter: Literal["comma", "semicolon", "tab", "spaces"]
    """between two fields; spaces stands for one or more"""
    header: Annotated[tuple[Text, ...], Field(min_length=1)] | None
    """names of the columns, for a table whose first line is data already"""


@dataclass(frozen=True)
class Table(Strict):
    """A row a sample."""

    name: Literal["table"]
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]
    """the tables"""
    columns: Columns
    """their columns"""
    dialect: Dialect | None
    """of text tables that are no plain CSV or TSV; null goes by the suffix"""


@dataclass(frozen=True)
class Folder(Strict):
    """One folder of folders."""

    path: RelativePath
    """below data/raw/SOURCE; '.' is the source itself"""
    part: Part | None
    """the part that the data set gives; null leaves it to split"""


@dataclass(frozen=True)
class Folders(Strict):
    """A folder a label, a file a sample."""

    name: Literal["folders"]
    folders: Annotated[tuple[Folder, ...], Field(min_length=1)]
    """each holds a folder a label"""
    suffixes: Annotated[
        tuple[Annotated[str, Field(pattern=r"^\.[a-z0-9]+$")], ...], Field(min_length=1)
    ]
    """of the files to read; another file goes to quarantine"""


@dataclass(frozen=True)
class Data(Strict):
    """The labelled data."""

    source: Key
    """the folder data/raw/SOURCE, brought by fetch, `dvc add` or `dvc import-url`"""
    encoding: Encoding
    """of its text; gb18030 reads GBK and GB2312 too; UTF-16 is read by its byte-order mark"""
    layout: Annotated[Table | Folders, Field(discriminator="name")]
    """how samples lie in it"""
