"""Look up what MLflow has of a model: versions, the champion, and their files.

A run has parameters, metrics, history and data sets. The logged model has model.json and model/ as
export wrote them, so their sha256 stays true. The alias `champion` names the version that serves.
MLflow's own model loaders are never called: they import code out of the artifact. MLflow decides
where the store is (MLFLOW_TRACKING_URI); contract/store.py opens it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.contract import location, store
from stages.contract.errors import ModelError, RegistryError

SHA256, DATA_MD5, LOCK_SHA256 = "refit.model_sha256", "refit.data_md5", "refit.dvc_lock_sha256"
AGAINST, OUTCOME, WITHDRAWN = "refit.judged_against", "refit.outcome", "refit.withdrawn"
# where the last decision.json is, and the sha256 of its bytes
DECISION, DECISION_SHA256 = "refit.decision", "refit.decision_sha256"
SHOWN = 100  # models that a message names


@dataclass(frozen=True)
class Version:
    """A registered model version.

    withdrawn says when, by whom and why it was withdrawn, and is empty if it was not.
    """

    name: str
    number: int
    run_id: str
    sha256: str
    judged_against: str
    withdrawn: str
    tags: dict[str, str]


def champion(name: str) -> Version | None:
    """Return the version that the alias `champion` names, if there is one."""
    with store.opened() as client:
        return look_up(client, name)


def find(name: str, sha256: str) -> Version | None:
    """Return the version that has a model of these bytes, if there is one.

    Registering the model again makes no second version.
    """
    with store.opened() as client:
        return holding(client, name, sha256)


def version(name: str, number: str | None) -> Version:
    """Return a version by its number, or the champion.

    Raises RegistryError, which names the versions there are, if there is none.
    """
    require_store(name)
    with store.opened() as client:
        return require(client, name, number)


def versions(name: str | None = None) -> list[Version]:
    """Return every version of a model, or of all models, in the order of their numbers."""
    if not location.exists():
        return []
    with store.opened() as client:
        return search(client, f"name = '{name}'" if name else "")


def download(version: Version, into: Path) -> Path:
    """Copy a version's model.json and model/ below `into`, and return that folder.

    The caller verifies the bytes. Raises ModelError if the registry has lost them.
    """
    with store.opened() as client:
        folder, lost = store.download(client, version.name, version.number, into)
    if folder is None:
        raise ModelError(
            f"{version.name}@{version.number}: the registry has lost its artifacts ({lost}); "
            "bring them back"
        )
    return folder


@contextmanager
def artifact(version: Version, name: str) -> Generator[Path | None]:
    """Yield a temporary copy of a file that was logged with a version's run.

    It is null if the run has no file of that name.
    """
    with TemporaryDirectory(prefix="refit-") as into:
        with store.opened() as client:
            found = copied(client, version.run_id, name, into)
        yield found


def look_up(client: Any, name: str, number: str | None = None) -> Version | None:
    """Return a version by its number or, without one, the champion, if there is one."""
    found = store.if_there(
        lambda: (
            client.get_model_version(name, number)
            if number
            else client.get_model_version_by_alias(name, store.ALIAS)
        )
    )
    return as_version(found) if found else None


def require(client: Any, name: str, number: str | None) -> Version:
    """Return a version by its number, or the champion.

    Raises RegistryError, which names what there is.
    """
    if found := look_up(client, name, number):
        return found
    if numbers := [of.number for of in search(client, f"name = '{name}'")]:
        lacking = f"version {number}" if number else f"champion (say {name}@{numbers[-1]})"
        raise RegistryError(
            f"{name}: the registry has no {lacking}; it has: {', '.join(map(str, numbers))}"
        )
    require_model(client, name)
    raise RegistryError(
        f"{name}: the registry has no version of this model; run `dvc repro register@{name}` first"
    )


def require_model(client: Any, name: str) -> None:
    """Raise RegistryError, which names the models there are, if none has this name."""
    if store.if_there(lambda: client.get_registered_model(name)) is None:
        names = [model.name for model in client.search_registered_models(max_results=SHOWN)]
        raise RegistryError(
            f"{name}: the registry has no model of this name; it has: {', '.join(names) or 'none'}"
        )


def require_store(name: str) -> None:
    """Raise RegistryError if there is no registry yet."""
    if not location.exists():
        raise RegistryError(
            f"{name}: there is no registry here; run `dvc repro register@{name}` first, "
            "or set MLFLOW_TRACKING_URI"
        )


def search(client: Any, wanted: str) -> list[Version]:
    """Return the versions that a filter of MLflow's finds, by model and number."""
    found, token = list[Any](), None
    while page := client.search_model_versions(wanted, page_token=token):
        found += page
        if not (token := page.token):
            break
    return sorted(map(as_version, found), key=lambda of: (of.name, of.number))


def holding(client: Any, name: str, sha256: str) -> Version | None:
    """Return the version that has a model of these bytes, if there is one."""
    found = search(client, f"name = '{name}' and tags.`{SHA256}` = '{sha256}'")
    return found[0] if found else None


def as_version(found: Any) -> Version:
    """Return MLflow's version as a Version."""
    of = found.tags
    return Version(
        found.name,
        int(found.version),
        found.run_id,
        of.get(SHA256, ""),
        of.get(AGAINST, ""),
        of.get(WITHDRAWN, ""),
        of,
    )


def copied(client: Any, run_id: str, name: str, into: str) -> Path | None:
    """Return a copy of a file that was logged with a run, if the run has one of that name."""
    held = (
        store.if_there(lambda: client.list_artifacts(run_id, name.rpartition("/")[0] or None)) or []
    )
    copied = (
        store.if_there(lambda: client.download_artifacts(run_id, name, into))
        if name in [of.path for of in held]
        else None
    )
    return Path(copied) if copied else None
