"""Locate MLflow's store and open it.

It is mlflow.db and mlruns/ of this project, or what MLFLOW_TRACKING_URI names.
"""

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from stages.contract import escape, locks
from stages.contract.errors import RegistryError, UnreachableError
from stages.contract.escape import one_line, redact

T = TypeVar("T")

ALIAS = "champion"
PORTS = {"mlflow": 5000, "prefect": 4200}  # of the servers of `make up`
DATABASE, ARTIFACTS = "mlflow.db", "mlruns"
# The folder in which DVC runs an experiment that is queued or asked for with --temp.
WORKSPACES = Path(".dvc/tmp/exps")
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
# What SQLite and MLflow say of a file that is not a store.
DAMAGED = ("not a database", "malformed", "no such table", "no such column")
REPEATED, PAUSE = 2, 1.0  # how often a request is sent again, and the seconds before


# ---- where it is ---------------------------------------------------------------------------------


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


def ping(seconds: float = 5) -> None:
    """Raise UnreachableError if the tracking server that the user named does not answer in time.

    Raises RegistryError if the variables do not name one store for both runs and versions. Any
    answer will do, even a refusal: what follows has its own, clearer errors.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address == f"sqlite:///{home() / DATABASE}" and re.search("[?%]", str(home())):
        raise RegistryError(
            f"{one_line(home(), 200)}: MLflow takes ? and % of a folder's name for marks of an "
            "address; rename the folder"
        )
    kind, separator, _ = address.partition(":")
    if address and (kind == "file" or not separator) and not address.startswith("databricks"):
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {escape.address(address)} is a folder of files, "
            "which MLflow no longer keeps up and two processes break; "
            "name a database (sqlite:///mlflow.db) or a server, "
            "or unset the variable to use mlflow.db here"
        )
    if registry := os.environ.get("MLFLOW_REGISTRY_URI", ""):
        raise RegistryError(
            f"MLFLOW_REGISTRY_URI: {escape.address(registry)} is another store than that of the "
            "runs; Refit keeps both in one: unset it"
        )
    if not (at := server()):
        return
    import requests

    try:
        requests.get(f"{at}/health", timeout=seconds)
    except requests.RequestException as error:
        raise UnreachableError(
            f"MLFLOW_TRACKING_URI: {escape.address(at)} does not answer within {seconds:g} s "
            f"({_said(error, 200)}); "
            "start the server, or unset the variable to use mlflow.db here"
        ) from None


def require_recordable(name: str) -> None:
    """Raise RegistryError for what would stop the registration of a model of this name.

    Call it before hours of training.
    """
    ping()
    if not exists():
        return
    with opened() as client:
        require_experiment(client, name)
        if held := if_there(lambda: client.get_model_version_by_alias(name, ALIAS)):
            require_run(client, held.run_id, f"{name}@{held.version}, the champion")


def require_experiment(client: Any, name: str) -> str | None:
    """Return the id of a task's experiment, or None if there is none.

    Raises RegistryError if it was deleted.
    """
    held = if_there(lambda: client.get_experiment_by_name(name))
    if held and held.lifecycle_stage != "active":
        raise RegistryError(
            f"{name}: its experiment was deleted in MLflow; "
            f"bring it back: `mlflow experiments restore --experiment-id {held.experiment_id}`"
        )
    return held.experiment_id if held else None


def require_run(client: Any, run_id: str, of: str) -> None:
    """Raise RegistryError if the run of a version was deleted: nothing can be logged with it."""
    held = if_there(lambda: client.get_run(run_id))
    if held is None:
        raise RegistryError(
            f"{of}: its run {run_id} is gone from MLflow; "
            "restore MLflow's database, or delete the version there"
        )
    if held.info.lifecycle_stage != "active":
        raise RegistryError(
            f"{of}: its run was deleted in MLflow; "
            f"bring it back: `mlflow runs restore --run-id {run_id}`"
        )


# ---- opened --------------------------------------------------------------------------------------


@contextmanager
def opened() -> Generator[Any]:
    """Yield MLflow's client; a store that does not answer raises UnreachableError.

    One process at a time enters, of this project and of all that use the same file: four that meet
    a new SQLite store at the same time break its migration, and two that register at the same time
    break each other's transaction (measured).
    """
    import mlflow
    import requests
    from mlflow.store.db import utils
    from sqlalchemy.exc import DatabaseError

    settle()
    # For a database that cannot be opened: MLflow's 10 tries take 100 s.
    utils.MAX_RETRY_COUNT = REPEATED
    # MLflow logs tracebacks of the errors that are raised below.
    logging.getLogger(utils.__name__).setLevel(logging.CRITICAL)
    file, ours = database(), home() / DATABASE
    if file and not file.parent.is_dir():
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {_address()}: there is no folder {one_line(file.parent, 200)}; "
            "make it, or name another"
        )
    try:
        with locks.alone(
            home() / locks.STORE
            if file is None or file.resolve() == ours
            else file.with_name(f".{file.name}.lock")
        ):
            if file and not file.exists():
                _make(file)
            elif file and file.resolve() == ours:
                _follow_the_project(file)
            yield _client()
    except (
        requests.RequestException,
        mlflow.MlflowException,
        sqlite3.DatabaseError,
        DatabaseError,
    ) as error:
        # After the first line SQLAlchemy writes its statement.
        reason = _said(str(error).partition("\n")[0], 300)
        if any(words in _all_said(error) for words in DAMAGED):
            raise RegistryError(
                f"MLflow at {_address()}: {reason}; "
                "bring the database back from a copy, or move it away"
            ) from error
        if (
            isinstance(error, sqlite3.DatabaseError | DatabaseError)
            or _is_lost(error)
            or "OperationalError" in _all_said(error)
        ):
            raise UnreachableError(
                f"MLflow at {_address()}: {reason}; see that it is up, and repeat"
            ) from error
        raise


def _address() -> str:
    return escape.address(os.environ["MLFLOW_TRACKING_URI"])


def _said(error: object, limit: int) -> str:
    """Return a library's message, without user and password of the store's address."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    return redact(one_line(str(error).replace(address, escape.address(address)), limit))


def _all_said(error: BaseException | None) -> str:
    """Return the messages of an error and of its causes."""
    return f"{type(error).__name__}: {error} {_all_said(error.__cause__)}" if error else ""


def artifact_location(name: str) -> str | None:
    """Return where the artifacts of a new experiment belong; None if MLflow's choice is right.

    In a workspace of DVC's MLflow would choose a folder there, which is thrown away.
    """
    return (home() / ARTIFACTS / name).as_uri() if database() and home() != Path.cwd() else None


def once(find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Return what `find` finds on a server, or else what `make` makes there.

    If the answer to a request was lost, look for its result before sending it again.
    """
    import mlflow
    import requests

    tries, kept = (
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
        os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES"),
    )
    for left in reversed(range(REPEATED + 1)):
        if (found := find()) is not None:
            return found
        os.environ[tries] = "0"
        try:
            return make()
        except (requests.RequestException, mlflow.MlflowException) as error:
            if not _is_lost(error) or not left:
                raise
        finally:
            os.environ.pop(tries) if kept is None else os.environ.update({tries: kept})
        time.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")


def if_there(ask: Callable[[], Any]) -> Any:
    """Return what MLflow answers, or None if it does not have what was asked for."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except FileNotFoundError:
        return None
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def is_absent(error: Any) -> bool:
    """Return whether MLflow lacks a model, version, alias, run or file.

    It has more than one code for that.
    """
    from mlflow.protos.databricks_pb2 import (
        INVALID_PARAMETER_VALUE,
        RESOURCE_DOES_NOT_EXIST,
        ErrorCode,
    )

    return error.error_code in (
        ErrorCode.Name(RESOURCE_DOES_NOT_EXIST),
        ErrorCode.Name(INVALID_PARAMETER_VALUE),
    )


def _is_lost(error: Exception) -> bool:
    """Return whether a request got no answer, or one from a proxy that got none."""
    import requests

    return (
        isinstance(error, requests.RequestException)
        or isinstance(error.__cause__, requests.RequestException)
        or "API request to" in str(error)
    )


def _client() -> Any:
    """Return MLflow's client.

    The user can mend an address of a kind that MLflow does not know, or whose driver is missing.
    """
    import mlflow
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        return mlflow.MlflowClient()
    except (mlflow.MlflowException, ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        if "out-of-date database schema" in str(error):
            raise RegistryError(
                f"MLflow at {_address()}: its tables are of another MLflow; "
                f"copy it, then say `mlflow db upgrade {_address()}`"
            ) from error
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {_said(error, 300)}; "
            "name another address, or install what it needs"
        ) from error


def _make(file: Path) -> None:
    """Make a store's tables in a file beside it, and move that into place when it is whole.

    A kill amid MLflow's migrations would leave a file that none of them mends.
    """
    import sqlalchemy
    from mlflow.store.db import utils

    partial = file.with_name(f".{file.name}.partial")
    for left in (partial, partial.with_name(f"{partial.name}-journal")):
        left.unlink(missing_ok=True)
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(partial)))
    try:
        # No public function makes the tables without upgrading what exists.
        utils._initialize_tables(engine)  # pyright: ignore[reportPrivateUsage]
    finally:
        engine.dispose()
    partial.replace(file)


def _follow_the_project(file: Path) -> None:
    """Let a store name the artifacts beside it after its project was renamed, moved or copied.

    MLflow writes down whole paths. A path changes only if the project has the same folder.
    """
    ours = f"{home()}/{ARTIFACTS}/"
    with contextlib.closing(sqlite3.connect(file)) as stored:
        if not stored.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"
        ).fetchone():
            return  # the store is new, or of an MLflow that will migrate it
        named = [
            str(place)
            for (place,) in stored.execute("SELECT artifact_location FROM experiments")
            if place
        ]
        parted = [
            re.fullmatch(rf"((?:file://)?)(/.*?/{ARTIFACTS}/)([^/]+)/?", place) for place in named
        ]
        old = {
            of[1] + of[2]
            for of in parted
            if of and unquote(of[2]) != ours and Path(ours, of[3]).is_dir()
        }
        with stored:
            for before in old:
                after = Path(ours).as_uri() + "/" if before.startswith("file://") else ours
                for table, column in PLACES.items():
                    # The names of the tables and columns are Refit's own.
                    moved = (
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                        f"WHERE substr({column}, 1, ?) = ?"
                    )
                    stored.execute(moved, (after, len(before) + 1, len(before), before))
