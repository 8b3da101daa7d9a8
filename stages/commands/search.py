"""Search the way in which a task learns best, and take the cheapest that is as good.

Optuna proposes ways and settings, and stops what does worse than two thirds of the others on a
ninth, or a third, of the train rows (successive halving, Li et al. 2020). Everything is measured on
validation. A journal keeps the trials, so that a search that was cut off goes on.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import median
from typing import Any

from stages.commands import blocks, estimate, trials
from stages.commands.defaults import merge
from stages.commands.trials import Bench, Outcome
from stages.contract import receipts, settings
from stages.contract.errors import ModelError, ParamsError
from stages.contract.escape import one_line
from stages.contract.metrics import Metric
from stages.contract.parts import ANY
from stages.contract.progress import Progress, spell
from stages.judging.evidence import Interval
from stages.params.task import Task
from stages.registry import searches
from stages.report import search as page

WAYS = Path(__file__).with_name("search.yaml")
RUNGS = (1 / 9, 1 / 3, 1.0)  # shares of the train rows
FEWEST = 20  # rows of each label that a rung has at least, or it is left out
REDUCTION = 3
AGAIN = "again"  # marks a trial that a run which was cut off had begun
BEGUN, WRITTEN = "begun.json", "written"  # what finetune was before a search wrote it
SCORE, SPENT, SETTINGS, OUTCOME, WHY = "score", "seconds", "finetune", "outcome", "why"


@dataclass(frozen=True)
class Trial:
    """A way with its settings, and how far it came.

    outcome is that of the last rung it reached; whole says whether that is all train rows; why says
    what ended it, if it was not whole.
    """

    number: int
    way: str
    finetune: dict[str, Any]
    outcome: Outcome | None
    whole: bool
    why: str


@dataclass(frozen=True)
class Found:
    """All trials of a search, the best by score, and the cheapest that is as good."""

    task: str
    metric: str
    trials: list[Trial]
    best: Trial
    chosen: Trial
    page: str


def search(name: str, minutes: float, most: int, write: bool) -> Found:
    """Try ways until the time is spent or enough were tried; write the chosen one to params.yaml.

    Time that an earlier run of the same search has spent counts. Raises ParamsError if not even the
    cheapest way fits into the time.
    """
    with trials.opened("search", name) as bench:
        _require_time(bench, minutes)
        folder = Path("data/search", name)
        folder.mkdir(parents=True, exist_ok=True)
        bench = replace(bench, task=_as_it_began(folder, bench.task))
        study, metric = Study(bench, folder / "journal.log"), bench.metric[1]
        log = searches.Log(name, bench.metric[0], study.name)
        with Progress("search", round(60 * minutes), "seconds") as going:
            for trial, spent in study.run(60 * minutes, most):
                log.trial(asdict(trial))
                print(_line(trial), file=sys.stderr, flush=True)
                going.advance(round(spent))
        done = study.trials()
        best, chosen = choose(done, metric)
        told = [asdict(one) for one in done]
        at = str(page.write(folder, study.of, told, asdict(best), asdict(chosen), metric.title))
        log.end(asdict(chosen), at)
        if write:
            begun = asdict(bench.task.finetune) | {WRITTEN: chosen.finetune}
            receipts.write_json(folder / BEGUN, begun)
            blocks.change(name, "finetune", chosen.finetune)
    return Found(name, metric.title, done, best, chosen, at)


def _as_it_began(folder: Path, task: Task) -> Task:
    """Return a task with the settings that its search began with, if it has written others since.

    So the same command goes on with the same search.
    """
    if not (folder / BEGUN).is_file():
        return task
    begun = receipts.read_json(folder / BEGUN)
    own = json.loads(settings.as_json(asdict(task.finetune)))
    return trials.changed(task, begun) if own == begun.pop(WRITTEN) else task


def choose(done: list[Trial], metric: Metric) -> tuple[Trial, Trial]:
    """Return the best trial, and the cheapest whose score lies within its interval."""
    whole = [(trial, trial.outcome) for trial in done if trial.whole and trial.outcome]
    if not whole:
        why = "; ".join(dict.fromkeys(trial.why for trial in done if trial.why))
        raise ModelError(f"no trial learned from all rows ({one_line(why, 300)}); give more time")
    sign = -1 if metric.less else 1
    best, at_best = max(whole, key=lambda one: (sign * one[1].score.value, -one[1].cpu))
    fine = [one for one in whole if trials.good_enough(metric, one[1].score.value, at_best.score)]
    return best, min(fine, key=lambda one: one[1].cpu)[0]


def _require_time(bench: Bench, minutes: float) -> None:
    """Raise ParamsError if the base model alone takes longer for the rows than the search may."""
    base = estimate.measure(bench.task, bench.train["x"])
    seconds = base.row * (len(bench.train) + len(bench.validation))
    if seconds > 60 * minutes:
        raise ParamsError(
            f"--minutes {minutes:g}: to send the rows through the base model once takes "
            f"{spell(seconds)} here, so no trial could end; give more"
        )


def ways(task: Task) -> dict[str, dict[str, Any]]:
    """Return the ways that can work with a task: what each sets, and its ranges."""
    known = settings.read_yaml(WAYS).get(task.modality.name, {})
    fitting = dict[str, dict[str, Any]]()
    for name, way in known.items():
        try:
            trials.changed(task, settings_of(task, way, {}))
        except ValueError:
            continue
        fitting[name] = way
    if not fitting:
        raise ParamsError(
            f"no way of {WAYS.name} fits the modality {task.modality.name} and the problem "
            f"{task.problem.name}"
        )
    return fitting


def settings_of(task: Task, way: dict[str, Any], chosen: dict[str, float]) -> dict[str, Any]:
    """Return finetune's settings for a way: a task's own, what the way sets, what was chosen."""
    finetune = asdict(task.finetune)
    merge(finetune, way["set"] | chosen)
    return finetune


def rungs(bench: Bench) -> list[float]:
    """Return the shares of the train rows that trials climb, the last of them all rows."""
    train = bench.train[bench.train["id"] == bench.train["source_id"]]
    rows = train["stratum"].fillna(ANY).value_counts().min()
    return [share for share in RUNGS if share == 1 or share * rows >= FEWEST]


class Study:
    """A search of Optuna's: what was tried, and what to try next."""

    def __init__(self, bench: Bench, journal: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.bench, self.ways, self.rungs = bench, ways(bench.task), rungs(bench)
        self.name = receipts.digest(
            [bench.sha256, self.ways, asdict(bench.task.finetune), bench.metric[0]]
        )
        self.of = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name=self.name,
            load_if_exists=True,
            direction="minimize" if bench.metric[1].less else "maximize",
            sampler=optuna.samplers.TPESampler(seed=bench.task.finetune.seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=1, reduction_factor=REDUCTION, min_early_stopping_rate=0
            ),
        )
        self._begin()

    def _begin(self) -> None:
        """Queue every way once, and again what a run that was cut off had begun."""
        from optuna.trial import TrialState

        if not self.of.trials:
            for name, way in self.ways.items():
                first = {f"{name}.{key}": sqrt(low * high) for key, (low, high) in _ranges(way)}
                self.of.enqueue_trial({"way": name} | first)
        for trial in self.of.get_trials(states=(TrialState.RUNNING,)):
            self.of.tell(trial.number, state=TrialState.FAIL)
            if AGAIN not in trial.user_attrs:  # what ends a search twice would do so for ever
                self.of.enqueue_trial(trial.params, user_attrs={AGAIN: True})

    def run(self, seconds: float, most: int) -> Iterator[tuple[Trial, float]]:
        """Try one after another, as long as there is time; yield each, and the seconds it took."""
        from optuna.trial import TrialState

        ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        while True:
            done = [one for one in self.of.get_trials(states=ended) if OUTCOME in one.user_attrs]
            left = seconds - sum(one.user_attrs.get(SPENT, 0.0) for one in self.of.trials)
            if len(done) >= most or (done and self._least(done) > left):
                return
            trial = self.of.ask()
            self._try(trial, left, first=not done)
            ended_now = self.of.trials[trial.number]
            yield self._read(ended_now), ended_now.user_attrs[SPENT]

    def _least(self, done: list[Any]) -> float:
        """Return the seconds that the first rung of another trial takes, by those that ended."""
        learned = [one.user_attrs[OUTCOME] for one in done if one.user_attrs[OUTCOME]]
        if not learned:
            return 0.0
        rate = median(one[SPENT] / one["rows"] for one in learned)
        return rate * self.rungs[0] * max(one["rows"] for one in learned)

    def _try(self, trial: Any, left: float, first: bool) -> None:
        """Let a trial climb the rungs until it is too bad, or too slow for what time is left."""
        from optuna.trial import TrialState

        bench = self.bench
        name = trial.suggest_categorical("way", list(self.ways))
        chosen = {
            key: trial.suggest_float(f"{name}.{key}", low, high, log=True)
            for key, (low, high) in _ranges(self.ways[name])
        }
        finetune = settings_of(bench.task, self.ways[name], chosen)
        trial.set_user_attr(SETTINGS, finetune)
        spent, outcome, state, why = 0.0, None, TrialState.COMPLETE, ""
        for rung, share in enumerate(self.rungs):
            if outcome and not first:
                needs = outcome.seconds * share / self.rungs[rung - 1]
                if spent + needs > left:
                    state, why = TrialState.PRUNED, "there was no time for more rows"
                    break
            began = time.monotonic()
            try:
                made = trials.changed(bench.task, finetune).finetune
                outcome, _ = trials.run(bench, made, trials.subset(bench.train, share))
            except (ModelError, RuntimeError, ArithmeticError) as error:
                # What torch says of a way that does not fit ends this trial, and not the search.
                why = one_line(f"{type(error).__name__}: {error}", 300)
            spent += time.monotonic() - began
            trial.set_user_attr(SPENT, spent)
            if why and share < 1:  # more rows may teach what these did not
                why = ""
                continue
            if why or not outcome:
                state = TrialState.FAIL
                break
            trial.report(outcome.score.value, REDUCTION**rung)
            if share < 1 and trial.should_prune():
                state, why = TrialState.PRUNED, f"others were better on {share:.0%} of the rows"
                break
        trial.set_user_attr(OUTCOME, asdict(outcome) if outcome else None)
        trial.set_user_attr(WHY, why)
        value = outcome.score.value if outcome and state == TrialState.COMPLETE else None
        self.of.tell(trial, value, state=state)

    def trials(self) -> list[Trial]:
        """Return every trial that has ended."""
        return [self._read(one) for one in self.of.trials if OUTCOME in one.user_attrs]

    def _read(self, one: Any) -> Trial:
        from optuna.trial import TrialState

        held = one.user_attrs[OUTCOME]
        outcome = Outcome(**held | {SCORE: Interval(**held[SCORE])}) if held else None
        return Trial(
            one.number,
            one.params["way"],
            one.user_attrs[SETTINGS],
            outcome,
            one.state == TrialState.COMPLETE,
            one.user_attrs[WHY],
        )


def _ranges(way: dict[str, Any]) -> list[tuple[str, tuple[float, float]]]:
    return list(way.get("between", {}).items())


def told(found: Found) -> list[str]:
    """Return a result as lines for a person to read."""
    best, chosen = found.best.outcome, found.chosen.outcome
    assert best
    assert chosen
    lines = [_line(trial) for trial in found.trials]
    lines.append(
        f"best: {found.best.way}, validation {found.metric} {best.score.value:.4f} "
        f"({best.score.low:.4f} to {best.score.high:.4f})"
    )
    if found.chosen is not found.best:
        lines.append(
            f"chosen: {found.chosen.way}, {chosen.score.value:.4f}, within that interval; it takes "
            f"{spell(chosen.cpu)} of processor time to train instead of {spell(best.cpu)}"
        )
    else:
        lines.append("chosen: the same, nothing cheaper is within that interval")
    return [*lines, f"page: {found.page}"]


def _line(trial: Trial) -> str:
    """Return a trial on a line."""
    if trial.outcome is None:
        return f"{trial.way}: {trial.why}"
    score, rows = trial.outcome.score.value, trial.outcome.rows
    ended = f"; {trial.why}" if trial.why else ""
    return f"{trial.way}: {score:.4f} on {rows:,} rows, {spell(trial.outcome.cpu)}{ended}"
