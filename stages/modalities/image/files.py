"""Open the files of pictures: regular ones, and those that lie in a pack, one file of many."""

import errno
import os
import stat
import zipfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from stages.contract.escape import extract, one_line

# One file of many pictures; FILE.zip/NAME names one of them. DVC looks at each file whenever it has
# nothing else to do.
PACK = ".zip"
WHERE = {  # the error on opening a file -> code and reason
    errno.ENOENT: ("missing_file", "is not there"),
    errno.ENOTDIR: ("missing_file", "is not there"),
    errno.ENXIO: ("not_regular", "not a regular file"),  # a socket
}


class PictureError(Exception):
    """The reason why one picture cannot be read: it costs a row, not the run."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def pack(named: Iterable[tuple[str, bytes]], path: Path) -> None:
    """Write named pictures into one ZIP archive unchanged; equal pictures give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in named:
            archive.writestr(zipfile.ZipInfo(name), content)


@contextmanager
def opened(path: Path) -> Generator[BinaryIO]:
    """Open a regular file or a picture in a pack, and nothing else.

    A named pipe without a writer would wait for ever.
    """
    if path.parent.suffix == PACK and path.parent.is_file():
        yield BytesIO(_packed(path))
        return
    descriptor = _descriptor(path)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PictureError("not_regular", "not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _descriptor(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise PictureError(
            *WHERE.get(error.errno or 0, ("unreadable", f"cannot be opened: {error.strerror}"))
        ) from None
    except ValueError:  # a name with a null character, or one that the file system cannot have
        raise PictureError("missing_file", f"'{extract(path)}' is no name of a file") from None


def _packed(path: Path) -> bytes:
    pack = path.parent.absolute()
    try:
        archive = _archive(pack, pack.stat().st_mtime_ns, os.getpid())
        stated = archive.getinfo(path.name)
        if stated.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile("compressed, as `pack` writes none")
        return archive.read(stated)
    except KeyError:
        raise PictureError("missing_file", f"is not in {extract(path.parent.name)}") from None
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise PictureError(
            "unreadable", f"{extract(path.parent.name)}: {one_line(error, 120)}"
        ) from None


@lru_cache(maxsize=4)
def _archive(path: Path, _written: int, _process: int) -> zipfile.ZipFile:
    """Open a pack once in each process.

    Its list of names is as long as the pack has pictures, and a fork would share the place at which
    the file is read.
    """
    return zipfile.ZipFile(path)
