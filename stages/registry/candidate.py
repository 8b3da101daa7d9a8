"""Gather everything that a version is registered with, and record it in MLflow.

That is the model, what it was made from, and what it was measured by.
"""

import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import history, location, receipts, store
from stages.contract.errors import ReceiptError
from stages.contract.history import Entry
from stages.contract.runner import Job
from stages.models import saved
from stages.project.lineage import UPSTREAM, Lineage
from stages.registry import registered
from stages.registry.registered import Version

# tag of a run: what is recorded with it, so that a registration that was cut off can go on
RECORDING = "refit.recording"
MODEL = "model"
STAGES = UPSTREAM
# files of evaluate
SHOWN = ("confusion.png", "confusion.csv", "report.json", "metrics.json", "predictions.parquet")


@dataclass(frozen=True)
class Dataset:
    """A data set that a run has read.

    context is its role (raw, train, validation, test), md5 is DVC's hash of it, rows are its rows
    if they are a table.
    """

    name: str
    context: str
    md5: str
    rows: pd.DataFrame | None


@dataclass(frozen=True)
class Candidate:
    """Everything that is recorded of a model.

    folder has model.json and model/; metrics are measured on the test rows; history is what the
    training logged; artifacts are files by the folder they go to; provenance is what each
    stage was made from.
    """

    name: str
    sha256: str
    folder: Path
    params: dict[str, Any]
    metrics: dict[str, Any]
    history: list[Entry]
    datasets: list[Dataset]
    artifacts: dict[str, list[Path]]
    provenance: dict[str, Any]
    tags: dict[str, str]


def gather(
    job: Job,
    folder: Path,
    sha256: str,
    sources: tuple[str, str],
    parts: dict[str, pd.DataFrame],
    origin: Lineage,
    metrics: dict[str, Any],
) -> Candidate:
    """Return the candidate in folder, which has model.json and model/ of this sha256.

    metrics are the candidate's own on the test rows. sources are those of the data and of the base
    model, origin is their lineage; job.out gets its excerpt.
    """
    data, base = sources
    model = saved.read(folder / "model.json")
    finetuned = model.baseline is None
    made_from = {
        stage: job.provenance(stage)
        for stage in STAGES
        if finetuned or stage not in ("finetune", "export")
    }
    params = {name: value for of in made_from.values() for name, value in of["params"].items()}
    receipts.write_json(job.out / "dvc_lock.json", origin.lock)
    return Candidate(
        name=job.key,
        sha256=sha256,
        folder=folder,
        params=params,
        metrics=metrics,
        history=history.read(job.take("finetune", "history.json")).entries if finetuned else [],
        datasets=_datasets(data, origin, parts),
        artifacts=_artifacts(job),
        provenance=made_from,
        tags={
            "refit.data": f"data/raw/{data}",
            "refit.data_md5": origin.data,
            "refit.base": base,
            "refit.base_sha256": model.base.sha256,
            "refit.git_commit": origin.commit,
            "refit.dvc_lock_sha256": origin.lock_sha256,
        },
    )


def _artifacts(job: Job) -> dict[str, list[Path]]:
    return {
        "lineage": [job.out / "dvc_lock.json", job.unsigned("validate", "expectations.json")],
        "evaluate": [
            *(job.take("evaluate", name) for name in SHOWN),
            job.unsigned("evaluate", "report.html"),
        ],
        "augment": sorted(job.take("augment", "preview").iterdir()),
        "data_docs": sorted(job.unsigned("validate", "data_docs").iterdir()),
        "domain": [
            job.unsigned("validate", "domain.json"),
            job.unsigned("validate", "profile.json"),
        ],
    }


def require_same(job: Job, predictions: pd.DataFrame, test: pd.DataFrame) -> None:
    """Raise ReceiptError if evaluate measured another model, or other test rows, than are here."""
    took = job.provenance("evaluate")["inputs"]
    for what, folder, name in (
        ("another model", f"data/export/{job.key}", "model"),
        ("other test rows", f"data/split/{job.key}", "test.parquet"),
    ):
        here = {
            path: item for path, item in job.taken.items() if path.startswith(f"{folder}/{name}")
        }
        if here.items() - took.items():
            raise ReceiptError(
                f"data/evaluate/{job.key}: its metrics are of {what} than {folder}/{name} holds; "
                f"run `dvc repro evaluate@{job.key}`"
            )
    if set(predictions["id"]) != set(test["id"]):
        raise ReceiptError(
            f"data/evaluate/{job.key}/predictions.parquet: is of other test rows "
            f"than data/split/{job.key}/test.parquet; evaluate anew"
        )


def _datasets(source: str, origin: Lineage, parts: dict[str, pd.DataFrame]) -> list[Dataset]:
    """Return the raw data set and each part of it, under DVC's own hashes."""
    hashed = {out["path"].rpartition("/")[2]: out["md5"] for out in origin.split["outs"]}
    rows = {
        name: part.assign(y=part["y"].str.join(" "))[["x", "y"]] for name, part in parts.items()
    }
    of_parts = [
        Dataset(f"{source}_{name}", name, hashed[f"{name}.parquet"], part)
        for name, part in rows.items()
    ]
    return [Dataset(source, "raw", origin.data, None), *of_parts]


def record(candidate: Candidate) -> Version:
    """Return the version that has these bytes, or make it.

    To make it, write a run, its data sets, the logged model and a new version. A failure leaves no
    version.
    """
    import mlflow

    name = candidate.name
    with store.opened() as client:
        if existing := registered.holding(client, name, candidate.sha256):
            store.require_run(client, existing.run_id, f"{name}@{existing.number}")
            return existing
        experiment = store.once(
            lambda: store.require_experiment(client, name),
            lambda: client.create_experiment(name, location.artifact_location(name)),
        )
        run_id = _run(client, experiment, candidate)
        with mlflow.start_run(run_id):
            test = _log(client, run_id, candidate)
            model_id = _model(client, experiment, run_id, candidate)
            mlflow.log_metrics(flatten(candidate.metrics), dataset=test, model_id=model_id)
        return _version(client, run_id, model_id, candidate)


def _log(client: Any, run_id: str, candidate: Candidate) -> Any:
    """Log everything but the model into the active run; return MLflow's data set of test rows."""
    import mlflow

    mlflow.set_tags(candidate.tags)
    mlflow.log_params(flatten(candidate.params))
    datasets = {
        item.context: _dataset(item, candidate.tags["refit.data"]) for item in candidate.datasets
    }
    for context, dataset in datasets.items():
        mlflow.log_input(dataset, context=context)
    client.log_batch(run_id, metrics=_logged_metrics(candidate.history))
    mlflow.log_dict(candidate.provenance, "lineage/provenance.json")
    for folder, paths in candidate.artifacts.items():
        for path in paths:
            mlflow.log_artifact(str(path), folder)
    return datasets["test"]


def _model(client: Any, experiment: str, run_id: str, candidate: Candidate) -> str:
    """Log the model, unless the run has it already; return the id of the logged model."""
    import mlflow

    model_id = store.once(
        lambda: _logged(client, experiment, run_id),
        lambda: mlflow.initialize_logged_model(
            MODEL, source_run_id=run_id, tags=candidate.tags, model_type="refit"
        ),
    ).model_id
    client.log_model_artifact(model_id, str(candidate.folder / "model.json"))
    client.log_model_artifacts(model_id, str(candidate.folder / "model"), "model")
    mlflow.finalize_logged_model(model_id, "READY")
    return model_id


def _version(client: Any, run_id: str, model_id: str, candidate: Candidate) -> Version:
    """Return the version of the logged model, which is made unless there is one of these bytes."""
    name, tags = candidate.name, candidate.tags | {registered.SHA256: candidate.sha256}
    store.once(
        lambda: store.if_there(lambda: client.get_registered_model(name)),
        lambda: client.create_registered_model(name),
    )
    made = store.once(
        lambda: registered.holding(client, name, candidate.sha256),
        lambda: registered.as_version(
            client.create_model_version(
                name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id
            )
        ),
    )
    named = json.dumps([{"name": name, "version": made.number}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": named})
    return made


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested document as one level with dotted keys.

    A dict whose keys are data stays a value.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and all(re.fullmatch("[a-z_][a-z0-9_]*", k) for k in value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _run(client: Any, experiment: str, candidate: Candidate) -> str:
    """Return the id of a new run, or of the one that a registration had begun.

    That registration was of the same things, and was cut off.
    """
    from mlflow.tracking.context import registry as context

    of = [candidate.sha256, candidate.params, candidate.tags, candidate.provenance]
    begun = {RECORDING: receipts.digest(of)}
    wanted, name = f"tags.`{RECORDING}` = '{begun[RECORDING]}'", candidate.sha256[:12]

    def find() -> str | None:
        existing = client.search_runs([experiment], wanted, max_results=1)
        return existing[0].info.run_id if existing else None

    def make() -> str:
        tags = context.resolve_tags(begun)
        return client.create_run(experiment, tags=tags, run_name=name).info.run_id

    return store.once(find, make)


def _logged(client: Any, experiment: str, run_id: str) -> Any:
    """Return the logged model of a run, or null if it has none yet."""
    existing = client.search_logged_models(
        [experiment], f"source_run_id = '{run_id}'", max_results=1
    )
    return existing[0] if existing else None


def _dataset(dataset: Dataset, source: str) -> Any:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.data.sources import (  # made when it is imported
        LocalArtifactDatasetSource,  # pyright: ignore[reportAttributeAccessIssue]
    )

    at = LocalArtifactDatasetSource(source)
    if dataset.rows is None:
        return MetaDataset(at, name=dataset.name, digest=dataset.md5)
    return from_pandas(dataset.rows, source=at, name=dataset.name, digest=dataset.md5)


def _logged_metrics(entries: list[Entry]) -> list[Any]:
    """Return what a training logged as MLflow's metrics; eval_ begins those of validation."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(name, float(value), now, entry.step)
        for entry in entries
        for name, value in {
            "epoch": entry.epoch,
            **entry.training,
            **{f"eval_{name}": value for name, value in entry.validation.items()},
        }.items()
        if math.isfinite(value)
    ]
