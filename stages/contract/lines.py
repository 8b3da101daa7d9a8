"""Open the file of a table, packed or not, and read its lines."""

import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.contract import encodings
from stages.contract.errors import TableError
from stages.contract.escape import one_line
from stages.params.types import Encoding

MAX_BYTES = 4 * 1024**3  # unpacked: a larger table is not for one machine
MAX_LINE = 2**24  # characters of a line, and of a cell: more is no row
GZIP = b"\x1f\x8b"
# latin-1 has a byte for each character, so that each line is decoded by itself
CODECS: dict[Encoding, str] = {"utf-8": "utf-8-sig", "gb18030": "latin-1"}


@contextmanager
def whole(path: Path) -> Generator[None]:
    """Turn what gzip or UTF-16 says of a file that was cut off or damaged into a TableError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path}: not whole UTF-16 ({error.reason}); save it as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(
            f"{path}: not a whole gzip file ({one_line(error, 100)}); fetch it anew"
        ) from None


@contextmanager
def opened(path: Path, encoding: Encoding) -> Generator[Iterator[str]]:
    """Yield the lines of a file in an encoding.

    The file may have a byte-order mark, or be in UTF-16 with one. Bytes that are not of the
    encoding become lone surrogates.
    """
    stream = _stream(path)
    codec, errors = (
        ("utf-16", "surrogatepass") if _is_wide(stream) else (CODECS[encoding], "surrogateescape")
    )
    with io.TextIOWrapper(stream, encoding=codec, errors=errors, newline="") as file:
        lines = _lines(file, path)
        yield (
            (encodings.decode(line.encode("latin-1"), encoding) for line in lines)
            if codec == "latin-1"
            else lines
        )


def written(path: Path) -> Encoding | None:
    """Return the encoding of a text.

    The result is null if the text is ASCII or UTF-16, or in no encoding that Refit knows.
    """
    with whole(path), _stream(path) as stream:
        return None if _is_wide(stream) else encodings.recognise(_lines(stream, path))


def _lines(file: Any, path: Path) -> Iterator[Any]:
    """Yield the lines of a file, as text or bytes.

    Raises TableError for a line that is longer than MAX_LINE, before it is read whole.
    """
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and line[-1:] not in ("\n", b"\n", "\r"):
            raise TableError(
                f"{path}:{number}: a line of more than {MAX_LINE:,} characters; "
                "look at the file: that is no row"
            )
        yield line


def _stream(path: Path) -> io.BufferedReader:
    """Open a file, packed or not."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    stream: io.BufferedReader = (
        io.BufferedReader(_Bounded(path), 1 << 20) if packed else path.open("rb")
    )
    try:
        if not stream.peek(1):
            raise TableError(f"{path}: is empty (0 bytes); look at where it came from")
    except (TableError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        stream.close()
        raise (
            error
            if isinstance(error, TableError)
            else TableError(f"{path}: not a gzip file ({one_line(error, 100)}); fetch it anew")
        ) from None
    return stream


def _is_wide(stream: io.BufferedReader) -> bool:
    return stream.peek(2)[:2] in encodings.WIDE


class _Bounded(io.RawIOBase):
    """Reads a gzip stream, and stops if it unpacks to more than MAX_BYTES."""

    def __init__(self, path: Path) -> None:
        self.stream = gzip.open(path, "rb")  # noqa: SIM115  (closed by close)
        self.path, self.left = path, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self.stream.read(len(buffer))
        self.left -= len(got)
        if self.left < 0:
            raise TableError(
                f"{self.path}: unpacks to more than {MAX_BYTES:,} bytes; "
                "split it into several files"
            )
        buffer[: len(got)] = got
        return len(got)

    def close(self) -> None:
        self.stream.close()
        super().close()
