"""Record a candidate in MLflow: a run, its data sets, the logged model, and a version of it."""

import json
import math
import re
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.contract import location, receipts, store
from stages.contract.history import Entry
from stages.registry import flavour, registered
from stages.registry.candidate import Candidate, Dataset
from stages.registry.registered import Version

# tag of a run: what is recorded with it, so that a registration that was cut off can go on
RECORDING = "refit.recording"


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
            candidate.name, source_run_id=run_id, tags=candidate.tags, model_type="refit"
        ),
    ).model_id
    client.log_model_artifact(model_id, str(candidate.folder / "model.json"))
    client.log_model_artifacts(model_id, str(candidate.folder / "model"), "model")
    with TemporaryDirectory(prefix="refit-") as beside:
        into, ids = Path(beside, "flavour"), (run_id, model_id)
        flavour.write(candidate.folder, candidate.described, candidate.sample, into, ids)
        client.log_model_artifacts(model_id, str(into))
    mlflow.finalize_logged_model(model_id, "READY")
    return model_id


def _version(client: Any, run_id: str, model_id: str, candidate: Candidate) -> Version:
    """Return the version of the logged model, which is made unless there is one of these bytes."""
    name, tags = candidate.name, candidate.tags | {registered.SHA256: candidate.sha256}
    store.once(
        lambda: store.if_there(lambda: client.get_registered_model(name)),
        lambda: client.create_registered_model(name, description=_about(candidate)),
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


def _about(candidate: Candidate) -> str:
    """Return the first line that a person reads of a registered model."""
    made, data = candidate.described, candidate.tags.get("refit.data", "its data")
    return f"{made.modality['name']} {made.problem}, learned from {data} with {made.base.source}"


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
    wanted = f"tags.`{RECORDING}` = '{begun[RECORDING]}'"

    def find() -> str | None:
        existing = client.search_runs([experiment], wanted, max_results=1)
        return existing[0].info.run_id if existing else None

    def make() -> str:
        tags = context.resolve_tags(begun)
        return client.create_run(experiment, tags=tags, run_name=_title(candidate)).info.run_id

    return store.once(find, make)


def _title(candidate: Candidate) -> str:
    """Return what a run is called: when, how the model learned, and its score."""
    baseline = candidate.described.baseline
    how = baseline or candidate.params.get("finetune", {}).get("tune", {})
    metric, score = next(iter(candidate.metrics.items()))
    return f"{datetime.now():%Y-%m-%d %H:%M} {how.get('name', 'model')} {metric} {score:.4f}"


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
