"""Errors that a user can mend: each becomes one line on stderr and an exit code."""

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
    """Say in one line where (file, row, key), what, which limit, and what to do."""

    exit_code = 2


class ParamsError(RefitError):
    """params.yaml contains something that no stage understands."""


class SourceError(RefitError):
    """A raw input is not the one that params.yaml pins."""


class TableError(RefitError):
    """A table cannot be read as rows."""


class DataError(RefitError):
    """The data set as a whole must not be learned from."""


class ManifestError(RefitError):
    """A manifest breaks its contract."""


class ProfileError(RefitError):
    """A profile of a domain cannot be read, or does not contain what is asked for."""


class DagError(RefitError):
    """DVC refuses a request, or cannot read its own files."""


class ReceiptError(RefitError):
    """An output of an earlier stage is not what that stage wrote."""


class ModelError(RefitError):
    """A model folder cannot be loaded safely."""


class RegistryError(RefitError):
    """The registry is not in the state for which a decision was made."""


class BusyError(RefitError):
    """Another process runs this stage of this task."""

    exit_code = 3


class UnreachableError(RefitError):
    """A service that the run depends on does not answer."""

    exit_code = 4


@contextmanager
def told() -> Generator[None]:
    """Print an error that a user can mend in one line on stderr, and exit with its code.

    Every command of Refit runs inside this.
    """
    try:
        yield
    except (RefitError, OSError) as error:
        if (line := mendable(error)) is None:
            raise
        print(f"refit: {line}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code if isinstance(error, RefitError) else RefitError.exit_code)


def mendable(error: RefitError | OSError) -> str | None:
    """Return the line for an error that a user can mend, or None.

    None is for what the operating system refuses and may be a mistake of Refit's own.
    """
    if isinstance(error, RefitError):
        return one_line(error)
    if error.errno not in MENDABLE:
        return None
    # A full disk names no file.
    place = f"{one_line(error.filename, 200)}: " if error.filename else ""
    return f"{place}{error.strerror}; choose another path, or make room"
