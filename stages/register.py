"""Registers the candidate, judges it against the champion on the same test rows, and promotes it only if it is better."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages import lineage, registry
from stages.checks import domain, profiles
from stages.contract import manifest, plugins, receipts, runner
from stages.contract.params import Classification, Compute, Data, Register
from stages.contract.runner import Job
from stages.judging import card, gates, scoring

STAGES = lineage.UPSTREAM
SHOWN = ("report.html", "confusion.png", "confusion.csv", "report.json", "metrics.json", "predictions.parquet")


def register(job: Job, problem: Classification, base: str, data: Data, compute: Compute, register: Register) -> str:
    """Write the decision and the model card, and record both, the model and its lineage in MLflow."""
    parts = {name: manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS}
    model = receipts.read_json(job.take("finetune", "model.json"))
    shown = {name: job.take("evaluate", name) for name in SHOWN}
    metrics, report = (receipts.read_json(shown[name]) for name in ("metrics.json", "report.json"))
    origin = lineage.read(job.key, data.source, base)

    folder, champion = job.take("finetune", "model").parent, registry.champion(job.key)
    sha256 = scoring.identity(folder)
    opponent = _opponent(job.key, champion, sha256)
    predictions, against = _against(job, opponent, manifest.read_table(shown["predictions.parquet"]), parts["test"], compute)
    labels = sorted(set(model["labels"]) | set(plugins.problem(problem.name).labels(parts["test"]["y"])))
    opponents = list(metrics["baselines"]) if against == "baselines" else [against]
    verdicts = [gates.judge(gate, predictions, metrics, opponents, labels) for gate in register.gates]
    outcome = gates.together(verdicts)

    receipts.write_json(job.out / "dvc_lock.json", origin.lock)
    made_from = {stage: job.provenance(stage) for stage in STAGES}
    history = receipts.read_json(job.take("finetune", "history.json"))
    version = registry.find(job.key, sha256) or registry.record(
        registry.Candidate(
            name=job.key,
            sha256=sha256,
            folder=folder,
            params={name: value for stage in STAGES for name, value in made_from[stage]["params"].items()},
            metrics=metrics,
            history=history,
            datasets=_datasets(data.source, origin, parts),
            artifacts={
                "lineage": [job.out / "dvc_lock.json"],
                "evaluate": list(shown.values()),
                "augment": sorted(job.take("augment", "preview").iterdir()),
                "data_docs": sorted(job.unsigned("validate", "data_docs").iterdir()),
                "domain": [job.unsigned("validate", "domain.json"), job.unsigned("validate", "profile.json")],
            },
            provenance=made_from,
            tags={
                "refit.data": f"data/raw/{data.source}",
                "refit.data_md5": origin.data,
                "refit.base": base,
                "refit.base_sha256": model["base"]["sha256"],
                "refit.git_commit": origin.commit,
                "refit.dvc_lock_sha256": origin.lock_sha256,
            },
        )
    )
    decision = {
        "task": job.key,
        "outcome": outcome,
        "against": against,
        "candidate": {"version": version.number, "run_id": version.run_id, "model_sha256": sha256},
        "data": {"source": data.source, "md5": origin.data, "test_rows": len(predictions)},
        "lineage": {"git_commit": origin.commit, "dvc_lock_sha256": origin.lock_sha256},
        "verdicts": verdicts,
        "drift": _drift(job, opponent, made_from["validate"]["params"]["validate"]["domain"]),
    }
    receipts.write_json(job.out / "decision.json", decision)
    (job.out / "model_card.md").write_text(card.write(decision, model, report), "utf-8")
    written = [job.out / name for name in ("decision.json", "model_card.md", "dvc_lock.json")]
    registry.decide(version, outcome, against, champion.number if champion else None, card.summary(decision, model), written, _metrics(decision))
    return f"version {version.number}: {outcome}; " + "; ".join(v["reason"] for v in verdicts)


def _opponent(name: str, champion: registry.Version | None, sha256: str) -> registry.Version | None:
    """Return the version to judge against: the champion, if there is one.

    A candidate that is the champion already is judged again against whom it was judged then, so that repeating this
    stage repeats its decision.
    """
    if champion and champion.sha256 == sha256:
        before = champion.judged_against.removeprefix("version_")
        return registry.version(name, before) if before.isdecimal() else None
    return champion


def _against(job: Job, opponent: registry.Version | None, predictions: pd.DataFrame, test: pd.DataFrame, compute: Compute) -> tuple[pd.DataFrame, str]:
    """Return predictions with a column for the opponent, scored anew on these rows, and whom to judge against.

    Without one the cheap baselines are the opponents.
    """
    if opponent is None:
        return predictions, "baselines"
    with TemporaryDirectory(dir=job.work) as folder:
        scored = scoring.predict(registry.download(opponent, Path(folder)), test, compute, sha256=opponent.sha256)
    name = f"version_{opponent.number}"
    by_id = pd.Series(scored["predicted"].to_numpy(), index=test["id"])
    return predictions.assign(**{name: predictions["id"].map(by_id)}), name


def _drift(job: Job, opponent: registry.Version | None, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return how far this data is from that of the version judged against, by the profiles of both; null where that is none, or left none."""
    if opponent is None:
        return None
    with registry.artifact(opponent, "domain/profile.json") as logged:
        if logged is None:
            return None
        reference = profiles.read(logged)
    new = profiles.read(job.unsigned("validate", "profile.json"))
    measures = domain.drift(reference, new, settings["false_alarms"], settings["seed"])
    return {"against": f"version_{opponent.number}", "measures": [of.document() for of in measures]}


def _metrics(decision: dict[str, Any]) -> dict[str, float]:
    """Return the distances as MLflow shows them."""
    return {f"drift_{of['measure']}": of["distance"] for of in (decision["drift"] or {"measures": []})["measures"]}


def _datasets(source: str, origin: lineage.Lineage, parts: dict[str, pd.DataFrame]) -> list[registry.Dataset]:
    """Return the raw data set and each part of it, under DVC's own hashes."""
    hashed = {out["path"].rpartition("/")[2]: out["md5"] for out in origin.split["outs"]}
    rows = {name: part.assign(y=part["y"].str.join(" "))[["x", "y"]] for name, part in parts.items()}
    of_parts = [registry.Dataset(f"{source}_{name}", name, hashed[f"{name}.parquet"], part) for name, part in rows.items()]
    return [registry.Dataset(source, "raw", origin.data, None), *of_parts]


if __name__ == "__main__":
    runner.run(register)
