"""Registers the candidate, judges it against the champion, and promotes it only if it is better."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.contract import manifest, plugins, receipts, runner
from stages.contract.errors import ModelError, RegistryError
from stages.contract.problem import Problem as Rules
from stages.contract.runner import Job
from stages.domain import profiles, survey
from stages.judging import cost, gates, ledger, report
from stages.judging.decision import Candidate, Decision, Drift, Lineage
from stages.judging.decision import Data as Judged
from stages.judging.report import Report
from stages.judging.verdict import Evidence, Verdict, refuse, together
from stages.models import saved, scoring
from stages.models.saved import Saved
from stages.params.compute import Compute
from stages.params.data import Data
from stages.params.problems import Problem
from stages.params.register import Budget, Register
from stages.project import lineage
from stages.registry import candidate, decisions, recording, registered
from stages.report import card

SIGNED = ("decision.json", "model_card.md", "dvc_lock.json")  # what MLflow keeps of a decision


@dataclass(frozen=True)
class Opponent:
    """Whom a candidate is judged against; the cheap baselines if there is no version.

    predicted are its values of the test rows (by id); damaged says why a version that should have
    been asked cannot be.
    """

    name: str
    version: registered.Version | None
    predicted: "pd.Series[Any] | None"
    damaged: str | None

    def identity(self) -> str:
        """Return what the ledger knows it by: the version's sha256, or the name."""
        return self.version.sha256 if self.version else self.name


BASELINES = Opponent("baselines", None, None, None)


def register(
    job: Job, problem: Problem, base: str, data: Data, compute: Compute, register: Register
) -> str:
    """Write the decision and the model card; record both, the model and its lineage in MLflow."""
    budget = next((gate for gate in register.gates if isinstance(gate, Budget)), None)
    meter = cost.Meter() if budget else None
    parts = {name: manifest.read(job.take("split", f"{name}.parquet")) for name in manifest.PARTS}
    model = saved.read(job.take("export", "model.json"))
    folder = job.take("export", "model").parent
    measured = report.read(job.take("evaluate", "report.json"))
    predictions = manifest.read_table(job.take("evaluate", "predictions.parquet"))
    test, origin = parts["test"], lineage.read(job.key, data.source, base)
    sha256, of_y = scoring.identity(folder), plugins.problem(problem.name)
    candidate.require_same(job, predictions, test)
    sources, metrics = (data.source, base), measured.metrics(of_y.HEADLINES)
    made = recording.record(candidate.gather(job, folder, sha256, sources, parts, origin, metrics))
    price = meter.measure(folder, test.head(budget.rows), compute) if meter and budget else None
    facts = _facts(job, of_y, parts, price)

    while True:  # until the registry stood still while the candidate was judged
        champion, uses = registered.champion(job.key), decisions.uses(job.key)
        version = registered.version(job.key, str(made.number))
        opponent = _opponent(job, champion, sha256, test, compute)
        use = ledger.Use(sha256, opponent.identity(), frozenset(predictions["id"]))
        shown = _evidence(of_y, model.labels, test, predictions, measured, opponent)
        evidence = replace(shown, cost=price, use=ledger.number(use, uses))
        verdicts = [gates.judge(gate, evidence) for gate in register.gates] + _withdrawn(version)
        decision = Decision(
            task=job.key,
            outcome=together([verdict.outcome for verdict in verdicts]),
            against=opponent.name,
            damaged=opponent.damaged,
            candidate=Candidate(version.number, version.run_id, sha256),
            data=Judged(data.source, origin.data, len(predictions)),
            lineage=Lineage(origin.commit, origin.lock_sha256),
            verdicts=verdicts,
            drift=_drift(job, opponent.version),
        )
        decision.write(job.out / "decision.json")
        text = card.write(decision, model, measured, register.card, facts)
        (job.out / "model_card.md").write_text(text, "utf-8")
        if _decide(job, decision, version, champion, len(uses), use, model):
            break
    return f"version {version.number}: {decision.outcome}; {_damage(decision)}{decision.reasons()}"


def _facts(
    job: Job, of_y: Rules, parts: dict[str, pd.DataFrame], price: cost.Cost | None
) -> card.Facts:
    """Return what the card says beside decision and report."""
    borne = {name: Counter(of_y.borne(of_y.values(part["y"]))) for name, part in parts.items()}
    rows = {name: len(part) for name, part in parts.items()}
    measures = receipts.read_json(job.unsigned("validate", "domain.json"))["measures"]
    far = [
        f"{one['measure']} {one['distance']:.3g}, "
        f"at most {one['limit']:.3g} by chance ({one['seen']})"
        for one in measures
        if one["far"]
    ]
    return card.Facts(borne, rows, far, price)


def _opponent(
    job: Job, champion: registered.Version | None, sha256: str, test: pd.DataFrame, compute: Compute
) -> Opponent:
    """Return the champion, scored anew on these rows.

    Without one, or if its bytes are lost, the cheap baselines take its place. A candidate that is
    the champion already is judged again against whom it was judged then, so that repeating this
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
            downloaded = registered.download(version, Path(folder))
            scored = scoring.predict(downloaded, test, compute, sha256=version.sha256)
    except (ModelError, RegistryError) as error:
        return Opponent("baselines", None, None, f"version_{number} cannot be asked ({error})")
    predicted = pd.Series(scored["predicted"].to_numpy(), index=test["id"])
    return Opponent(f"version_{number}", version, predicted, None)


def _evidence(
    of_y: Rules,
    labels: list[str],
    test: pd.DataFrame,
    predictions: pd.DataFrame,
    measured: Report,
    opponent: Opponent,
) -> Evidence:
    """Return what the gates judge by: the predictions beside those of the opponent."""
    if opponent.predicted is not None:
        column = predictions["id"].map(opponent.predicted)
        predictions = predictions.assign(**{opponent.name: column})
    return Evidence(
        predictions=predictions,
        report=measured,
        cost=None,
        against=[opponent.name] if opponent.version else list(measured.beside),
        labels=sorted({*labels, *plugins.labels(of_y, of_y.values(test["y"]))}),
        metrics=of_y.METRICS,
    )


def _withdrawn(version: registered.Version) -> list[Verdict]:
    """Return the rejection of a version that was withdrawn, however good it is."""
    if not version.withdrawn:
        return []
    reason = (
        f"version {version.number} was withdrawn {version.withdrawn}; "
        "only `refit promote` brings it back"
    )
    return [refuse("not_withdrawn", reason)]


def _drift(job: Job, opponent: registered.Version | None) -> Drift | None:
    """Return how far this data is from that of the version judged against, by their profiles.

    Null if there is no version, or if it left no profile.
    """
    if opponent is None:
        return None
    with registered.artifact(opponent, "domain/profile.json") as logged:
        if logged is None:
            return None
        reference = profiles.read(logged)
    new = profiles.read(job.unsigned("validate", "profile.json"))
    settings = job.provenance("validate")["params"]["validate"]["domain"]
    measures = survey.drift(reference, new, settings["false_alarms"], settings["seed"])
    return Drift(f"version_{opponent.number}", [measure.document() for measure in measures])


def _decide(
    job: Job,
    decision: Decision,
    version: registered.Version,
    champion: registered.Version | None,
    earlier: int,
    use: ledger.Use,
    model: Saved,
) -> bool:
    """Record the decision, and move the alias if it promotes.

    False if the registry moved meanwhile: then judge anew.
    """
    measures = decision.drift.measures if decision.drift else []
    return decisions.decide(
        decisions.Verdict(
            version=version,
            champion=champion.number if champion else None,
            earlier=earlier,
            outcome=decision.outcome,
            against=decision.against,
            why=f"register: it beats {decision.against}",
            use=use,
            description=f"{card.line(decision)}\n\n{card.summary(decision, model)}",
            artifacts=[job.out / name for name in SIGNED],
            metrics={f"drift_{one['measure']}": one["distance"] for one in measures},
        )
    )


def _damage(decision: Decision) -> str:
    if not decision.damaged:
        return ""
    return f"{decision.damaged}, so it was judged against the cheap baselines; "


if __name__ == "__main__":
    runner.run(register)
