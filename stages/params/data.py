"""Where the labelled data is, and how it is laid out."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.params.types import Encoding, Key, Part, RelativePath, Rows, Strict, Text, all_different


@dataclass(frozen=True)
class DataFile(Strict):
    """One table."""

    path: RelativePath
    """path below data/raw/SOURCE: .csv, .tsv, .jsonl (each also as .gz), .parquet, or any that
    `dialect` describes"""
    part: Part | None
    """the part that the data set gives; null leaves it to split"""
    rows: Rows | None
    """first and last data row to read, from 1; null reads all"""


@dataclass(frozen=True)
class Columns(Strict):
    """Which columns are read; the others are kept in meta."""

    x: Text
    """column that the model reads: a text, or the path of a file, relative to its table"""
    y: Text | Annotated[tuple[Text, ...], Field(min_length=2), AfterValidator(all_different)]
    """column that the model learns to predict; several columns, one for each label, contain 1 if
    the label applies and 0 if not"""

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
    """what separates two fields; `spaces` means one space or more"""
    header: Annotated[tuple[Text, ...], Field(min_length=1)] | None
    """names of the columns, for a table whose first line is already data"""


@dataclass(frozen=True)
class Table(Strict):
    """Each row is a sample."""

    name: Literal["table"]
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]
    """the tables"""
    columns: Columns
    """their columns"""
    dialect: Dialect | None
    """how text tables are written that are not plain CSV or TSV; null goes by the suffix"""


@dataclass(frozen=True)
class Folder(Strict):
    """One folder of folders."""

    path: RelativePath
    """path below data/raw/SOURCE; '.' is the source itself"""
    part: Part | None
    """the part that the data set gives; null leaves it to split"""


@dataclass(frozen=True)
class Folders(Strict):
    """Each folder is a label, and each file in it is a sample."""

    name: Literal["folders"]
    folders: Annotated[tuple[Folder, ...], Field(min_length=1)]
    """folders that contain one folder for each label"""
    suffixes: Annotated[
        tuple[Annotated[str, Field(pattern=r"^\.[a-z0-9]+$")], ...], Field(min_length=1)
    ]
    """suffixes of the files to read; any other file goes to quarantine"""


@dataclass(frozen=True)
class Data(Strict):
    """The labelled data."""

    source: Key
    """the folder data/raw/SOURCE, brought by fetch, `dvc add` or `dvc import-url`"""
    encoding: Encoding
    """encoding of its text; gb18030 also reads GBK and GB2312; UTF-16 is read by its byte-order
    mark"""
    layout: Annotated[Table | Folders, Field(discriminator="name")]
    """how its samples are laid out"""
