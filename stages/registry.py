"""Records candidates, their lineage and the champion in MLflow. The only door to it.

A run holds parameters, metrics, history and data sets; the logged model holds model.json and model/ as finetune wrote
them, so their sha256 stays true; the alias `champion` names the version that serves. MLflow's own model loaders are
never called: they import code out of the artifact. Where the store is, is MLflow's to say (MLFLOW_TRACKING_URI).
"""

import fcntl
import math
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.contract import receipts
from stages.contract.errors import RegistryError, UnreachableError
from stages.contract.escape import one_line, redact

ALIAS = "champion"
SHA256, AGAINST, OUTCOME = "refit.model_sha256", "refit.judged_against", "refit.outcome"
MODEL = "model"
LOCK = Path("data/.work/registry.lock")


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    name: str
    number: int
    run_id: str
    sha256: str
    judged_against: str


@dataclass(frozen=True)
class Dataset:
    """What a run has read, in what role (raw, train, validation, test), DVC's hash of it, and its rows where they are a table."""

    name: str
    context: str
    md5: str
    rows: pd.DataFrame | None


@dataclass(frozen=True)
class Candidate:
    """All that is recorded of a model.

    folder holds model.json and model/; metrics are those of the test rows; history is a list of logs, each with its
    step; artifacts are files by the folder they go to; provenance is what each stage was made from.
    """

    name: str
    sha256: str
    folder: Path
    params: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    datasets: list[Dataset]
    artifacts: dict[str, list[Path]]
    provenance: dict[str, Any]
    tags: dict[str, str]


def exists() -> bool:
    """Say whether there is a store to ask: looking at one here would make it."""
    return "MLFLOW_TRACKING_URI" in os.environ or Path("mlflow.db").exists()


def champion(name: str) -> Version | None:
    """Return the version that the alias `champion` names, if there is one."""
    with _answering() as client:
        return _look_up(client, name)


def find(name: str, sha256: str) -> Version | None:
    """Return the version that holds a model of these bytes, if there is one: registering again makes no second."""
    with _answering() as client:
        found = client.search_model_versions(f"name = '{name}' and tags.`{SHA256}` = '{sha256}'")
    return _version(found[0]) if found else None


def version(name: str, number: str | None) -> Version:
    """Return a version by its number, or the champion; raises RegistryError, which names what there is, where there is none."""
    if not exists():
        raise RegistryError(f"{name}: there is no registry here; run `dvc repro register@{name}` first, or set MLFLOW_TRACKING_URI")
    with _answering() as client:
        if found := _look_up(client, name, number):
            return found
        if numbers := sorted(int(of.version) for of in client.search_model_versions(f"name = '{name}'")):
            lacking, have = f"version {number}" if number else f"champion (say {name}@{numbers[-1]})", numbers
        else:
            lacking, have = "model of this name", [model.name for model in client.search_registered_models()]
    raise RegistryError(f"{name}: the registry has no {lacking}; it has: {', '.join(map(str, have)) or 'none'}")


def download(version: Version, into: Path) -> Path:
    """Copy a version's model.json and model/ below `into` and return that folder; the caller verifies the bytes."""
    from mlflow.artifacts import download_artifacts

    with _answering():
        return Path(download_artifacts(artifact_uri=f"models:/{version.name}/{version.number}", dst_path=str(into)))


@contextmanager
def artifact(version: Version, name: str) -> Generator[Path | None]:
    """Yield a copy, for the time being, of a file that was logged with a version's run; null where the run has none of that name."""
    with TemporaryDirectory(prefix="refit-") as into:
        with _answering() as client:
            held = [of.path for of in client.list_artifacts(version.run_id, name.rpartition("/")[0] or None)]
            copied = Path(client.download_artifacts(version.run_id, name, into)) if name in held else None
        yield copied


def record(candidate: Candidate) -> Version:
    """Write a run, its data sets, the logged model and a registered version; a failure leaves no version."""
    import mlflow

    with _answering() as client:
        experiment = mlflow.set_experiment(candidate.name)
        with mlflow.start_run(experiment_id=experiment.experiment_id, run_name=candidate.sha256[:12]) as run:
            mlflow.set_tags(candidate.tags)
            mlflow.log_params(flatten(candidate.params))
            datasets = {of.context: _dataset(of, candidate.tags["refit.data"]) for of in candidate.datasets}
            for context, dataset in datasets.items():
                mlflow.log_input(dataset, context=context)
            client.log_batch(run.info.run_id, metrics=_history(candidate.history))
            mlflow.log_dict(candidate.provenance, "lineage/provenance.json")
            for folder, paths in candidate.artifacts.items():
                for path in paths:
                    mlflow.log_artifact(str(path), folder)
            logged = mlflow.initialize_logged_model(MODEL, source_run_id=run.info.run_id, tags=candidate.tags, model_type="refit")
            client.log_model_artifact(logged.model_id, str(candidate.folder / "model.json"))
            client.log_model_artifacts(logged.model_id, str(candidate.folder / "model"), "model")
            mlflow.finalize_logged_model(logged.model_id, "READY")
            mlflow.log_metrics(flatten(candidate.metrics), dataset=datasets["test"], model_id=logged.model_id)
        made = mlflow.register_model(f"models:/{logged.model_id}", candidate.name, tags=candidate.tags | {SHA256: candidate.sha256})
    return _version(made)


def decide(version: Version, outcome: str, against: str, champion: int | None, description: str, artifacts: list[Path], metrics: dict[str, float]) -> None:
    """Record a verdict on a version, and metrics of it, and move the alias to it if it is to be promoted.

    champion is the number of the version that held the alias when the candidate was judged: if another holds it now,
    the verdict is not about it, and RegistryError is raised before anything is written.
    """
    import mlflow

    with _answering() as client:
        now = _look_up(client, version.name)
        if (now.number if now else None) != champion:
            raise RegistryError(f"{version.name}: the champion moved while version {version.number} was judged; run register again")
        folder = f"decisions/against_{against}_{receipts.digest(receipts.files(artifacts[0].parent, [p.name for p in artifacts]))[:8]}"
        for path in artifacts:
            mlflow.log_artifact(str(path), artifact_path=folder, run_id=version.run_id)
        if metrics:
            mlflow.log_metrics(metrics, run_id=version.run_id)
        for key, value in ((OUTCOME, outcome), (AGAINST, against)):
            client.set_model_version_tag(version.name, str(version.number), key, value)
            client.set_tag(version.run_id, key, value)
        client.update_model_version(version.name, str(version.number), description)
        if outcome == "promote":
            client.set_registered_model_alias(version.name, ALIAS, str(version.number))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested document as one level with dotted keys; a dict whose keys are data stays a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and all(re.fullmatch("[a-z_][a-z0-9_]*", k) for k in value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _look_up(client: Any, name: str, number: str | None = None) -> Version | None:
    """Return a version by its number or, without one, the champion, if there is such."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        return _version(client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, ALIAS))
    except MlflowException as error:
        if error.error_code in (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)):
            return None  # no such model yet, no such version, or no such alias: MLflow has a code for each
        raise


def _dataset(dataset: Dataset, source: str) -> Any:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.data.sources import LocalArtifactDatasetSource  # pyright: ignore[reportAttributeAccessIssue]  (made when imported)

    at = LocalArtifactDatasetSource(source)
    if dataset.rows is None:
        return MetaDataset(at, name=dataset.name, digest=dataset.md5)
    return from_pandas(dataset.rows, source=at, name=dataset.name, digest=dataset.md5)


def _version(found: Any) -> Version:
    return Version(found.name, int(found.version), found.run_id, found.tags.get(SHA256, ""), found.tags.get(AGAINST, ""))


def _history(history: list[dict[str, float]]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, int(entry["step"])) for entry in history for key, value in entry.items() if key != "step" and math.isfinite(value)]


def _client() -> Any:
    """Return MLflow's client; an address that is of no kind it knows, or whose driver is not installed, is the user's to mend."""
    import mlflow
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        return mlflow.MlflowClient()
    except (mlflow.MlflowException, ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise RegistryError(f"MLFLOW_TRACKING_URI: {redact(one_line(error, 300))}; name another address, or install what it needs") from error


@contextmanager
def _answering() -> Generator[Any]:
    """Yield MLflow's client; a store that does not answer becomes an UnreachableError.

    One process of this project at a time: four that meet a new sqlite store at once break its migration (measured).
    """
    import mlflow
    import requests
    from sqlalchemy.exc import OperationalError

    LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with LOCK.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _client()
    except (requests.RequestException, OperationalError) as error:
        raise UnreachableError(
            f"MLflow at {mlflow.get_tracking_uri().rsplit('@')[-1]}: {redact(one_line(error, 300))}; see that it is up, and repeat"
        ) from error
    except mlflow.MlflowException as error:
        if isinstance(error.__cause__, requests.RequestException) or "API request to" in str(error):
            raise UnreachableError(
                f"MLflow at {mlflow.get_tracking_uri().rsplit('@')[-1]}: {redact(one_line(error, 300))}; see that it is up, and repeat"
            ) from error
        raise
