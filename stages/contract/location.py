"""Say where MLflow's store is: in this project, or where MLFLOW_TRACKING_URI says."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from stages.contract import escape

DATABASE, ARTIFACTS = "mlflow.db", "mlruns"
# The folder in which DVC runs an experiment that is queued or asked for with --temp.
WORKSPACES = Path(".dvc/tmp/exps")


def home() -> Path:
    """Return the project's folder.

    It is the current folder or, in a workspace of DVC's for one experiment, the folder of the
    project to which the workspace belongs.
    """
    here = Path.cwd()
    for parent in here.parents:
        if here.is_relative_to(parent / WORKSPACES):
            return parent
    return here


def settle() -> None:
    """Name the project's own store if the user named none, and hide user and password.

    MLflow's own default goes astray if a folder's name contains a space (it opens one with %20),
    and if DVC runs an experiment in a workspace. MLflow prints the address that it is given, but it
    reads user and password from variables of their own as well: a server's address loses both.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    bare, user, password = escape.parted(address)
    if escape.parted(os.environ.get("MLFLOW_REGISTRY_URI", ""))[0] == bare:
        os.environ.pop("MLFLOW_REGISTRY_URI", None)  # which MLflow would print whole
    if not address:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home() / DATABASE}"
    if bare == address or not re.match("https?://", address):
        return
    os.environ["MLFLOW_TRACKING_URI"] = bare
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(user))
    os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(password))


def server() -> str | None:
    """Return the address of the tracking server that the user named; None for a store on disk."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    return address.rstrip("/") if re.match(r"https?://", address) else None


def database() -> Path | None:
    """Return the file of a store on disk; None for a server and for another database."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        return Path(DATABASE)
    path = address.removeprefix("sqlite:///")
    return None if path in (address, "", ":memory:") else Path(path.partition("?")[0])


def exists() -> bool:
    """Return whether there is a store to ask; opening one on disk would make it."""
    file = database()
    return file is None or file.exists()


def artifact_location(name: str) -> str | None:
    """Return where the artifacts of a new experiment belong; None if MLflow's choice is right.

    In a workspace of DVC's MLflow would choose a folder there, which is thrown away.
    """
    return (home() / ARTIFACTS / name).as_uri() if database() and home() != Path.cwd() else None
