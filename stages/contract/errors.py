"""The errors that a user can mend: each becomes one line on stderr and an exit code."""

import errno
import sys
from collections.abc import Generator
from contextlib import contextmanager

from stages.contract.escape import one_line

MENDABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class RefitError(Exception):
    """Say where (file, row, key), what, which limit, and what to do, in one line."""

    exit_code = 2


class ParamsError(RefitError):
    """params.yaml says something that no stage understands."""


class SourceError(RefitError):
    """A raw input is not what params.yaml pins it to."""


class TableError(RefitError):
    """A table cannot be read as rows."""


class DataError(RefitError):
    """The data set as a whole must not be learned from."""


class ManifestError(RefitError):
    """A manifest breaks its contract."""


class ProfileError(RefitError):
    """A profile of a domain cannot be read, or says nothing of what is asked."""


class DagError(RefitError):
    """DVC refuses what it was asked, or its files are not what it can read."""


class ReceiptError(RefitError):
    """An output of an earlier stage is not what that stage wrote."""


class ModelError(RefitError):
    """A model folder cannot be loaded safely."""


class RegistryError(RefitError):
    """The registry is not in the state that a decision was made for."""


class BusyError(RefitError):
    """Another process runs this stage of this task."""

    exit_code = 3


class UnreachableError(RefitError):
    """Something that the run depends on does not answer."""

    exit_code = 4


@contextmanager
def told() -> Generator[None]:
    """Tell on stderr, in one line, what a user can mend, and exit with its code; every command of ours runs in this."""
    try:
        yield
    except (RefitError, OSError) as error:
        if (line := mendable(error)) is None:
            raise
        print(f"refit: {line}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code if isinstance(error, RefitError) else RefitError.exit_code)


def mendable(error: RefitError | OSError) -> str | None:
    """Return the line for what a user can mend; None for what the operating system refuses and may be a mistake of Refit's own."""
    if isinstance(error, RefitError):
        return one_line(error)
    if error.errno not in MENDABLE:
        return None
    place = (
        f"{one_line(error.filename, 200)}: " if error.filename else ""
    )  # a full disk names no file
    return f"{place}{error.strerror}; choose another path, or make room"
