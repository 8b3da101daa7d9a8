"""Open MLflow's store, ask it, and refuse one that is not fit.

It is mlflow.db and mlruns/ of this project, or what MLFLOW_TRACKING_URI names.
"""

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from stages.contract import escape, location, locks, relocation
from stages.contract.errors import RefitError, RegistryError, UnreachableError
from stages.contract.escape import one_line, redact

T = TypeVar("T")

ALIAS = "champion"
# What describes a version that was copied into a source of its own, beside its files there.
DESCRIBED = "refit.json"
PORTS = {"mlflow": 5000, "prefect": 4200}  # of the servers of `make up`
# What SQLite and MLflow say of a file that is not a store.
DAMAGED = ("not a database", "malformed", "no such table", "no such column")
REPEATED, PAUSE = 2, 1.0  # how often a request is sent again, and the seconds before


def ping(seconds: float = 5) -> None:
    """Raise UnreachableError if the tracking server that the user named does not answer in time.

    Raises RegistryError if the variables do not name one store for both runs and versions. Any
    answer will do, even a refusal: what follows has its own, clearer errors.
    """
    _require_one_store()
    if not (at := location.server()):
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


def _require_one_store() -> None:
    """Raise RegistryError if the variables do not name one store that MLflow keeps up."""
    address, home = os.environ.get("MLFLOW_TRACKING_URI", ""), location.home()
    if address == f"sqlite:///{home / location.DATABASE}" and re.search("[?%]", str(home)):
        raise RegistryError(
            f"{one_line(home, 200)}: MLflow takes ? and % of a folder's name for marks of an "
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


def require_recordable(name: str) -> None:
    """Raise RegistryError for what would stop the registration of a model of this name.

    Call it before hours of training.
    """
    ping()
    if not location.exists():
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


@contextmanager
def opened() -> Generator[Any]:
    """Yield MLflow's client; a store that does not answer raises UnreachableError.

    One process at a time enters, of this project and of all that use the same file: four that meet
    a new SQLite store at the same time break its migration, and two that register at the same time
    break each other's transaction (measured).
    """
    import mlflow
    import requests
    from sqlalchemy.exc import DatabaseError

    _restrain()
    location.settle()
    file = location.database()
    _require_folder(file)
    try:
        with locks.alone(_lock(file)):
            if file:
                _prepare(file)
            yield _client()
    except (
        requests.RequestException,
        mlflow.MlflowException,
        sqlite3.DatabaseError,
        DatabaseError,
    ) as error:
        if plain := _plain(error):
            raise plain from error
        raise


def _restrain() -> None:
    """Let MLflow give up early and quietly."""
    from mlflow.store.db import utils

    # For a database that cannot be opened: MLflow's 10 tries take 100 s.
    utils.MAX_RETRY_COUNT = REPEATED
    # MLflow logs tracebacks of the errors that `opened` raises anew.
    logging.getLogger(utils.__name__).setLevel(logging.CRITICAL)


def _require_folder(file: Path | None) -> None:
    if file and not file.parent.is_dir():
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {_address()}: there is no folder {one_line(file.parent, 200)}; "
            "make it, or name another"
        )


def _is_ours(file: Path) -> bool:
    return file.resolve() == location.home() / location.DATABASE


def _lock(file: Path | None) -> Path:
    """Return the file by which the processes that use a store wait for one another."""
    if file is None or _is_ours(file):
        return location.home() / locks.STORE
    return file.with_name(f".{file.name}.lock")


def _prepare(file: Path) -> None:
    """Make a store's file that is missing; let our own follow the project."""
    if not file.exists():
        _make(file)
    elif _is_ours(file):
        relocation.follow(file)


def _plain(error: Exception) -> RefitError | None:
    """Return what to tell a person of the store's error; None if Refit does not know."""
    from sqlalchemy.exc import DatabaseError

    # After the first line SQLAlchemy writes its statement.
    reason, said = _said(str(error).partition("\n")[0], 300), _all_said(error)
    if any(words in said for words in DAMAGED):
        return RegistryError(
            f"MLflow at {_address()}: {reason}; "
            "bring the database back from a copy, or move it away"
        )
    if (
        isinstance(error, sqlite3.DatabaseError | DatabaseError)
        or _is_lost(error)
        or "OperationalError" in said
    ):
        return UnreachableError(f"MLflow at {_address()}: {reason}; see that it is up, and repeat")
    return None


def _address() -> str:
    return escape.address(os.environ["MLFLOW_TRACKING_URI"])


def _said(error: object, limit: int) -> str:
    """Return a library's message, without user and password of the store's address."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    return redact(one_line(str(error).replace(address, escape.address(address)), limit))


def _all_said(error: BaseException | None) -> str:
    """Return the messages of an error and of its causes."""
    return f"{type(error).__name__}: {error} {_all_said(error.__cause__)}" if error else ""


def once(find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Return what `find` finds on a server, or else what `make` makes there.

    If the answer to a request was lost, look for its result before sending it again.
    """
    import mlflow
    import requests

    tries = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    kept = os.environ.get(tries)
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


def download(client: Any, name: str, number: int, into: Path) -> tuple[Path | None, str]:
    """Copy the files of a version below `into`; return their folder, or None and why not."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    at = if_there(lambda: client.get_model_version_download_uri(name, str(number)))
    if at is None:
        return None, f"there is no version {number} of {name}"
    try:
        uri = f"models:/{name}/{number}"
        folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(into)))
    except (MlflowException, FileNotFoundError) as error:
        if isinstance(error, MlflowException) and not is_absent(error):
            raise
        return None, one_line(error, 300)
    if not (folder / "model.json").is_file():
        return None, one_line(f"nothing lies at {at}", 300)
    return folder, ""


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
