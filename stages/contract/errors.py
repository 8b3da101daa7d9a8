"""The errors that a user can mend: each becomes one line on stderr and an exit code."""


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
