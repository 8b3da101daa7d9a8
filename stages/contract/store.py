"""Says where MLflow's store is, and opens it: mlflow.db and mlruns/ of this project, or what MLFLOW_TRACKING_URI names."""

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
WORKSPACES = Path(
    ".dvc/tmp/exps"
)  # where DVC runs an experiment that is queued or asked for with --temp
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
DAMAGED = (
    "not a database",
    "malformed",
    "no such table",
    "no such column",
)  # what SQLite and MLflow say of a file that is no store
REPEATED, PAUSE = 2, 1.0  # times that a request is sent again, seconds before


# ---- where it is -------------------------------------------------------------------------------------------------------


def home() -> Path:
    """Return the project's folder: this one or, in a workspace of DVC's for one experiment, that of the project it belongs to."""
    here = Path.cwd()
    for parent in here.parents:
        if here.is_relative_to(parent / WORKSPACES):
            return parent
    return here


def settle() -> None:
    """Name the project's own store where the user named none, and take user and password out of a server's address.

    MLflow's own default goes astray where a folder's name holds a space (it opens one with %20), and where DVC runs an experiment in a
    workspace. It prints the address that it is given, and reads user and password from variables of their own as well.
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
    """Return the address of the tracking server that the user named, if it is one: a store on disk is none."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    return address.rstrip("/") if re.match(r"https?://", address) else None


def database() -> Path | None:
    """Return the file of a store on disk; null where the store is a server's or another database's."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        return Path(DATABASE)
    path = address.removeprefix("sqlite:///")
    return None if path in (address, "", ":memory:") else Path(path.partition("?")[0])


def exists() -> bool:
    """Say whether there is a store to ask: looking at one on disk would make it."""
    file = database()
    return file is None or file.exists()


def ping(seconds: float = 5) -> None:
    """Raise UnreachableError when the tracking server that the user named does not answer in time, RegistryError for what is no store for both
    runs and versions.

    Any answer will do, a refusal too: what follows has its own, clearer errors.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address == f"sqlite:///{home() / DATABASE}" and re.search("[?%]", str(home())):
        raise RegistryError(
            f"{one_line(home(), 200)}: MLflow takes ? and % of a folder's name for marks of an address; rename the folder"
        )
    kind, separator, _ = address.partition(":")
    if address and (kind == "file" or not separator) and not address.startswith("databricks"):
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {escape.address(address)} is a folder of files, which MLflow no longer keeps up and two processes break; "
            "name a database (sqlite:///mlflow.db) or a server, or unset the variable to use mlflow.db here"
        )
    if registry := os.environ.get("MLFLOW_REGISTRY_URI", ""):
        raise RegistryError(
            f"MLFLOW_REGISTRY_URI: {escape.address(registry)} is another store than that of the runs; Refit keeps both in one: unset it"
        )
    if not (at := server()):
        return
    import requests

    try:
        requests.get(f"{at}/health", timeout=seconds)
    except requests.RequestException as error:
        raise UnreachableError(
            f"MLFLOW_TRACKING_URI: {escape.address(at)} does not answer within {seconds:g} s ({_said(error, 200)}); "
            "start the server, or unset the variable to use mlflow.db here"
        ) from None


def require_recordable(name: str) -> None:
    """Raise RegistryError for what would stop the registration of a model of this name: known before hours of training."""
    ping()
    if not exists():
        return
    with opened() as client:
        require_experiment(client, name)
        if held := if_there(lambda: client.get_model_version_by_alias(name, ALIAS)):
            require_run(client, held.run_id, f"{name}@{held.version}, the champion")


def require_experiment(client: Any, name: str) -> str | None:
    """Return the id of the experiment of a task, null where there is none; raises RegistryError where it was deleted."""
    held = if_there(lambda: client.get_experiment_by_name(name))
    if held and held.lifecycle_stage != "active":
        raise RegistryError(
            f"{name}: its experiment was deleted in MLflow; bring it back: `mlflow experiments restore --experiment-id {held.experiment_id}`"
        )
    return held.experiment_id if held else None


def require_run(client: Any, run_id: str, of: str) -> None:
    """Raise RegistryError where the run of a version was deleted: nothing can be logged with it then."""
    held = if_there(lambda: client.get_run(run_id))
    if held is None:
        raise RegistryError(
            f"{of}: its run {run_id} is gone from MLflow; restore MLflow's database, or delete the version there"
        )
    if held.info.lifecycle_stage != "active":
        raise RegistryError(
            f"{of}: its run was deleted in MLflow; bring it back: `mlflow runs restore --run-id {run_id}`"
        )


# ---- opened ------------------------------------------------------------------------------------------------------------


@contextmanager
def opened() -> Generator[Any]:
    """Yield MLflow's client; a store that does not answer becomes an UnreachableError.

    One process at a time, of this project and of all that use the same file: four that meet a new sqlite store at once break its
    migration, and two that register at once break each other's transaction (measured).
    """
    import mlflow
    import requests
    from mlflow.store.db import utils
    from sqlalchemy.exc import DatabaseError

    settle()
    utils.MAX_RETRY_COUNT = REPEATED  # of a database that cannot be opened: 10 tries take 100 s
    logging.getLogger(utils.__name__).setLevel(
        logging.CRITICAL
    )  # it writes tracebacks of what is told below
    file, ours = database(), home() / DATABASE
    if file and not file.parent.is_dir():
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {_address()}: there is no folder {one_line(file.parent, 200)}; make it, or name another"
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
        said = _said(
            str(error).partition("\n")[0], 300
        )  # SQLAlchemy's next lines are its statement
        if any(words in _all_said(error) for words in DAMAGED):
            raise RegistryError(
                f"MLflow at {_address()}: {said}; bring the database back from a copy, or move it away"
            ) from error
        if (
            isinstance(error, sqlite3.DatabaseError | DatabaseError)
            or _is_lost(error)
            or "OperationalError" in _all_said(error)
        ):
            raise UnreachableError(
                f"MLflow at {_address()}: {said}; see that it is up, and repeat"
            ) from error
        raise


def _address() -> str:
    return escape.address(os.environ["MLFLOW_TRACKING_URI"])


def _said(error: object, limit: int) -> str:
    """Return what a library says, without user and password of the address that it says it of."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    return redact(one_line(str(error).replace(address, escape.address(address)), limit))


def _all_said(error: BaseException | None) -> str:
    """Return the words of an error and of those that it came from."""
    return f"{type(error).__name__}: {error} {_all_said(error.__cause__)}" if error else ""


def artifact_location(name: str) -> str | None:
    """Return where the artifacts of a new experiment belong; null where MLflow's own choice is right.

    In a workspace of DVC's MLflow would choose a folder there, which is thrown away.
    """
    return (home() / ARTIFACTS / name).as_uri() if database() and home() != Path.cwd() else None


def once(find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Return what find finds or else what make makes on a server. A request whose answer was lost is looked for before it is sent again."""
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
    """Return what MLflow answers, or null where it has no such thing."""
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
    """Say whether MLflow has no such model, version, alias, run or file: it has more than one code for that."""
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
    """Say whether a request had no answer, or one of a proxy that had none."""
    import requests

    return (
        isinstance(error, requests.RequestException)
        or isinstance(error.__cause__, requests.RequestException)
        or "API request to" in str(error)
    )


def _client() -> Any:
    """Return MLflow's client; an address that is of no kind it knows, or whose driver is not installed, is the user's to mend."""
    import mlflow
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        return mlflow.MlflowClient()
    except (mlflow.MlflowException, ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        if "out-of-date database schema" in str(error):
            raise RegistryError(
                f"MLflow at {_address()}: its tables are of another MLflow; copy it, then say `mlflow db upgrade {_address()}`"
            ) from error
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: {_said(error, 300)}; name another address, or install what it needs"
        ) from error


def _make(file: Path) -> None:
    """Make a store's tables beside it and move them into place when they are whole: amid MLflow's migrations a kill would leave a file that none mends."""
    import sqlalchemy
    from mlflow.store.db import utils

    partial = file.with_name(f".{file.name}.partial")
    for left in (partial, partial.with_name(f"{partial.name}-journal")):
        left.unlink(missing_ok=True)
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(partial)))
    try:
        utils._initialize_tables(engine)  # pyright: ignore[reportPrivateUsage]  (no public name makes them without an upgrade of what is there)
    finally:
        engine.dispose()
    partial.replace(file)


def _follow_the_project(file: Path) -> None:
    """Let a store name the artifacts that lie beside it, after its project was renamed, moved or copied: MLflow writes down whole paths.

    Only places of which the project holds the same folder are changed.
    """
    ours = f"{home()}/{ARTIFACTS}/"
    with contextlib.closing(sqlite3.connect(file)) as stored:
        if not stored.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'logged_models'"
        ).fetchone():
            return  # new, or of an MLflow that will migrate it
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
                    moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"  # noqa: S608  (names of ours)
                    stored.execute(moved, (after, len(before) + 1, len(before), before))
