"""Find the registered version that the command line names, and verify that its model is whole."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.contract import runner, store
from stages.contract.errors import ModelError, RegistryError
from stages.contract.escape import extract
from stages.models import scoring
from stages.registry import registered

NAMED = re.compile(r"([a-z0-9_]{1,60})(?:@(champion|[1-9][0-9]{0,8}))?")


def name(model: str) -> str:
    """Return the name of a model, once the registry answers.

    Raises RegistryError for a word that is not the name of a task.
    """
    if not re.fullmatch("[a-z0-9_]{1,60}", model):
        raise RegistryError(
            f"{extract(model)}: is no model's name; it is the name of its task, made of a-z, 0-9 "
            "and _"
        )
    runner.quiet()
    store.ping()
    return model


def find(model: str) -> registered.Version:
    """Return the version that MODEL, MODEL@champion or MODEL@NUMBER names.

    Raises RegistryError, whose message names what there is.
    """
    named = NAMED.fullmatch(model)
    if not named:
        raise RegistryError(
            f"{extract(model)}: is neither MODEL, nor MODEL@champion, nor MODEL@NUMBER; a name is "
            "made of a-z, 0-9 and _"
        )
    return registered.version(name(named[1]), None if named[2] == "champion" else named[2])


def require_whole(version: registered.Version) -> None:
    """Raise ModelError unless the registry still has the exact bytes that were registered."""
    with TemporaryDirectory(prefix="refit-") as folder:
        copied = registered.download(version, Path(folder))
        complete = (copied / "model").is_dir() and (copied / "model.json").is_file()
        if not complete or scoring.identity(copied) != version.sha256:
            raise ModelError(
                f"{version.name}@{version.number}: the model's bytes are not those that were "
                "registered; restore them, or name another version"
            )
