"""Registers the candidate, judges it against the champion on the same test rows, and promotes it only if it is better."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ModelError, RegistryError
from stages.contract.runner import Job
from stages.domain import profiles, survey
from stages.judging import cost, gates, ledger
from stages.models import scoring
from stages.params.compute import Compute
from stages.params.data import Data
from stages.params.problems import Problem
from stages.params.register import Budget, Register
from stages.project import lineage
from stages.registry import candidate, decisions, registered
from stages.report import card


@dataclass(frozen=True)
class Opponent:
    """Whom a candidate is judged against, by its name and its predictions of the test rows; the cheap baselines where there is no version.

    damaged says why a version that should have been asked cannot be.
    """

    name: str
    version: registered.Version | None
    predicted: "pd.Series[str] | None"
    damaged: str | None


BASELINES = Opponent("baselines", None, None, None)


def register(
    job: Job, problem: Problem, base: str, data: Data, compute: Compute, register: Register
) -> str:
    """Write the decision and the model card, and record both, the model and its lineage in MLflow."""
    budget = next((gate for gate in register.gates if isinstance(gate, Budget)), None)
    meter = cost.Meter() if budget else None
    parts = {name: manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS}
    model, folder = (
        receipts.read_json(job.take("finetune", "model.json")),
        job.take("finetune", "model").parent,
    )
    metrics, report = (
        receipts.read_json(job.take("evaluate", name)) for name in ("metrics.json", "report.json")
    )
    predictions = manifest.read_table(job.take("evaluate", "predictions.parquet"))
    of_y, origin, sha256 = (
        plugins.problem(problem.name),
        lineage.read(job.key, data.source, base),
        scoring.identity(folder),
    )
    labels = sorted({*model["labels"], *plugins.labels(of_y, of_y.values(parts["test"]["y"]))})
    candidate.require_same(job, predictions, parts["test"])
    made = candidate.record(
        candidate.gather(job, folder, sha256, (data.source, base), parts, origin, metrics)
    )
    price = (
        meter.measure(folder, parts["test"].head(budget.rows), compute)
        if budget and meter
        else None
    )
    borne = {name: Counter(of_y.borne(of_y.values(part["y"]))) for name, part in parts.items()}
    facts = card.Facts(
        borne, {name: len(part) for name, part in parts.items()}, _farthest(job), price
    )

    while True:  # until the registry stood still while the candidate was judged
        champion, version = (
            registered.champion(job.key),
            registered.version(job.key, str(made.number)),
        )
        opponent = _opponent(job, champion, sha256, parts["test"], compute)
        opponents = [opponent.name] if opponent.version else list(metrics["baselines"])
        use = ledger.Use(
            sha256,
            opponent.version.sha256 if opponent.version else opponent.name,
            frozenset(predictions["id"]),
        )
        number = ledger.number(use, uses := decisions.uses(job.key))
        metric, ranges = (
            of_y.METRICS[report["metric"]["name"]],
            {name: of.range for name, of in of_y.METRICS.items()},
        )
        evidence = gates.Evidence(
            _beside(predictions, opponent),
            metrics,
            report,
            price,
            opponents,
            labels,
            metric,
            ranges,
            number,
        )
        verdicts = [gates.judge(gate, evidence) for gate in register.gates] + _withdrawn(version)
        outcome = gates.together(verdicts)
        decision = {
            "task": job.key,
            "outcome": outcome,
            "against": opponent.name,
            "damaged": opponent.damaged,
            "candidate": {
                "version": version.number,
                "run_id": version.run_id,
                "model_sha256": sha256,
            },
            "data": {"source": data.source, "md5": origin.data, "test_rows": len(predictions)},
            "lineage": {"git_commit": origin.commit, "dvc_lock_sha256": origin.lock_sha256},
            "verdicts": verdicts,
            "drift": _drift(job, opponent.version),
        }
        receipts.write_json(job.out / "decision.json", decision)
        (job.out / "model_card.md").write_text(
            card.write(decision, model, report, register.card, facts), "utf-8"
        )
        if decisions.decide(
            decisions.Verdict(
                version=version,
                champion=champion.number if champion else None,
                earlier=len(uses),
                outcome=outcome,
                against=opponent.name,
                why=f"register: it beats {opponent.name}",
                use=use,
                description=card.summary(decision, model),
                artifacts=[
                    job.out / name for name in ("decision.json", "model_card.md", "dvc_lock.json")
                ],
                metrics=_metrics(decision),
            )
        ):
            break
    damage = (
        f"{opponent.damaged}, so it was judged against the cheap baselines; "
        if opponent.damaged
        else ""
    )
    return f"version {version.number}: {outcome}; {damage}" + "; ".join(
        v["reason"] for v in verdicts
    )


def _opponent(
    job: Job, champion: registered.Version | None, sha256: str, test: pd.DataFrame, compute: Compute
) -> Opponent:
    """Return the champion, scored anew on these rows, or the cheap baselines where there is none or its bytes are lost.

    A candidate that is the champion already is judged again against whom it was judged then, so that repeating this
    stage repeats its decision.
    """
    if champion is None:
        return BASELINES
    number = str(champion.number)
    if champion.sha256 == sha256:
        number = champion.judged_against.removeprefix("version_")
        if not number.isdecimal():
            return BASELINES
    try:
        version = registered.version(job.key, number)
        with TemporaryDirectory(dir=job.work) as folder:
            scored = scoring.predict(
                registered.download(version, Path(folder)), test, compute, sha256=version.sha256
            )
    except (ModelError, RegistryError) as error:
        return Opponent("baselines", None, None, f"version_{number} cannot be asked ({error})")
    return Opponent(
        f"version_{number}",
        version,
        pd.Series(scored["predicted"].to_numpy(), index=test["id"]),
        None,
    )


def _beside(predictions: pd.DataFrame, opponent: Opponent) -> pd.DataFrame:
    """Return predictions with a column for the opponent, unless it is the baselines, which have theirs."""
    return (
        predictions
        if opponent.predicted is None
        else predictions.assign(**{opponent.name: predictions["id"].map(opponent.predicted)})
    )


def _withdrawn(version: registered.Version) -> list[gates.Verdict]:
    """Return the rejection of a version that was withdrawn, however good it is."""
    if not version.withdrawn:
        return []
    reason = f"version {version.number} was withdrawn {version.withdrawn}; only `refit promote` brings it back"
    return [{"gate": "not_withdrawn", "outcome": "reject", "reason": reason}]


def _drift(job: Job, opponent: registered.Version | None) -> dict[str, Any] | None:
    """Return how far this data is from that of the version judged against, by the profiles of both; null where that is none, or left none."""
    if opponent is None:
        return None
    with registered.artifact(opponent, "domain/profile.json") as logged:
        if logged is None:
            return None
        reference = profiles.read(logged)
    new, settings = (
        profiles.read(job.unsigned("validate", "profile.json")),
        job.provenance("validate")["params"]["validate"]["domain"],
    )
    measures = survey.drift(reference, new, settings["false_alarms"], settings["seed"])
    return {"against": f"version_{opponent.number}", "measures": [of.document() for of in measures]}


def _farthest(job: Job) -> list[str]:
    """Return what validate found to be far from what the base model was pretrained on."""
    measures = receipts.read_json(job.unsigned("validate", "domain.json"))["measures"]
    return [
        f"{of['measure']} {of['distance']:.3g}, at most {of['limit']:.3g} by chance ({of['seen']})"
        for of in measures
        if of["far"]
    ]


def _metrics(decision: dict[str, Any]) -> dict[str, float]:
    """Return the distances as MLflow shows them."""
    return {
        f"drift_{of['measure']}": of["distance"]
        for of in (decision["drift"] or {"measures": []})["measures"]
    }


if __name__ == "__main__":
    runner.run(register)
