"""Gather everything that a version is registered with.

That is the model, what it was made from, and what it was measured by.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import history, receipts
from stages.contract.errors import ReceiptError
from stages.contract.history import Entry
from stages.contract.runner import Job
from stages.models import saved
from stages.models.saved import Saved
from stages.project.lineage import UPSTREAM, Lineage

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

    folder has model.json, which is described, and model/; sample is x of a row, for an example;
    metrics are measured on the test rows; history is what the training logged; artifacts are files
    by the folder they go to; provenance is what each stage was made from.
    """

    name: str
    sha256: str
    folder: Path
    described: Saved
    sample: str
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
        described=model,
        sample=parts["test"]["x"].iloc[0],
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
                f"data/evaluate/{job.key}: its metrics are of {what} than {folder}/{name} has; "
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
