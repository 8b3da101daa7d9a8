"""Gathers all that a version is registered with: the model, what it was made from, and what it was measured by."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import receipts
from stages.contract.errors import ReceiptError
from stages.contract.runner import Job
from stages.lineage import UPSTREAM, Lineage
from stages.registry import Candidate, Dataset

STAGES = UPSTREAM
SHOWN = ("confusion.png", "confusion.csv", "report.json", "metrics.json", "predictions.parquet")  # of evaluate


def gather(
    job: Job, folder: Path, sha256: str, sources: tuple[str, str], parts: dict[str, pd.DataFrame], origin: Lineage, metrics: dict[str, Any]
) -> Candidate:
    """Return the candidate that folder holds (model.json and model/, of this sha256); metrics are its own on the test rows.

    sources are those of the data and of the base model, origin is their lineage, whose excerpt job.out gets.
    """
    data, base = sources
    model = receipts.read_json(folder / "model.json")
    finetuned = "baseline" not in model
    made_from = {stage: job.provenance(stage) for stage in STAGES if stage != "finetune" or finetuned}
    receipts.write_json(job.out / "dvc_lock.json", origin.lock)
    return Candidate(
        name=job.key,
        sha256=sha256,
        folder=folder,
        params={name: value for of in made_from.values() for name, value in of["params"].items()},
        metrics=metrics,
        history=receipts.read_json(job.take("finetune", "history.json")) if finetuned else [],
        datasets=_datasets(data, origin, parts),
        artifacts={
            "lineage": [job.out / "dvc_lock.json", job.unsigned("validate", "expectations.json")],
            "evaluate": [*(job.take("evaluate", name) for name in SHOWN), job.unsigned("evaluate", "report.html")],
            "augment": sorted(job.take("augment", "preview").iterdir()),
            "data_docs": sorted(job.unsigned("validate", "data_docs").iterdir()),
            "domain": [job.unsigned("validate", "domain.json"), job.unsigned("validate", "profile.json")],
        },
        provenance=made_from,
        tags={
            "refit.data": f"data/raw/{data}",
            "refit.data_md5": origin.data,
            "refit.base": base,
            "refit.base_sha256": model["base"]["sha256"],
            "refit.git_commit": origin.commit,
            "refit.dvc_lock_sha256": origin.lock_sha256,
        },
    )


def require_same(job: Job, predictions: pd.DataFrame, test: pd.DataFrame) -> None:
    """Raise ReceiptError where evaluate measured another model, or other test rows, than those that are here."""
    took = job.provenance("evaluate")["inputs"]
    for what, folder, name in (("another model", f"data/finetune/{job.key}", "model"), ("other test rows", f"data/split/{job.key}", "test.parquet")):
        here = {path: of for path, of in job.taken.items() if path.startswith(f"{folder}/{name}")}
        if here.items() - took.items():
            raise ReceiptError(f"data/evaluate/{job.key}: its metrics are of {what} than {folder}/{name} holds; run `dvc repro evaluate@{job.key}`")
    if set(predictions["id"]) != set(test["id"]):
        raise ReceiptError(f"data/evaluate/{job.key}/predictions.parquet: is of other test rows than data/split/{job.key}/test.parquet; evaluate anew")


def _datasets(source: str, origin: Lineage, parts: dict[str, pd.DataFrame]) -> list[Dataset]:
    """Return the raw data set and each part of it, under DVC's own hashes."""
    hashed = {out["path"].rpartition("/")[2]: out["md5"] for out in origin.split["outs"]}
    rows = {name: part.assign(y=part["y"].str.join(" "))[["x", "y"]] for name, part in parts.items()}
    of_parts = [Dataset(f"{source}_{name}", name, hashed[f"{name}.parquet"], part) for name, part in rows.items()]
    return [Dataset(source, "raw", origin.data, None), *of_parts]
