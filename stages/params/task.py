"""All of params.yaml: its tasks, its sources and its flows.

A task says what must agree between its sections.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import Field

from stages.params.augment import Augment, Split
from stages.params.compute import Compute
from stages.params.data import Data
from stages.params.evaluate import Evaluate, LabelIssues
from stages.params.export import Export
from stages.params.finetune import Finetune, Objective
from stages.params.flows import Flows
from stages.params.image import ImageModality
from stages.params.problems import Problem
from stages.params.register import Calibration, Ceiling, EachLabel, Floor, Register, Slices
from stages.params.sources import Source
from stages.params.text import TextModality
from stages.params.types import Key, Strict
from stages.params.validate import Validate

Modality = TextModality | ImageModality


@dataclass(frozen=True)
class Task(Strict):
    """One data set, one base model and their settings; gives one registered model."""

    modality: Annotated[Modality, Field(discriminator="name")]
    """what x is"""
    problem: Annotated[Problem, Field(discriminator="name")]
    """what y is"""
    base: Key
    """the pretrained model, a source: data/raw/BASE"""
    data: Data
    """the labelled data"""
    compute: Compute
    """how the work is computed"""
    validate: Validate
    """what the data must satisfy"""
    augment: Augment
    """altered copies of train rows"""
    split: Split
    """train, validation, test"""
    label_issues: LabelIssues
    """rows whose label may be wrong"""
    finetune: Finetune
    """how the base model learns"""
    export: Annotated[Export, Field(discriminator="name")]
    """the form in which the model leaves"""
    evaluate: Evaluate
    """how the candidate is measured, and what it is compared with"""
    register: Register
    """what promotion requires"""

    @property
    def sources(self) -> dict[str, str]:
        """The sources that it names, by the place where it does."""
        named = {"base": self.base, "data.source": self.data.source}
        if teacher := getattr(self.finetune.objective, "teacher", None):
            named["finetune.objective.teacher"] = teacher
        return named

    def __post_init__(self) -> None:
        wrong = [*self._foreign(), *self._metrics(), *self._labels()]
        if self.problem.LABELS not in self.finetune.objective.LABELS:
            has = [_named(of) for of in get_args(Objective) if self.problem.LABELS in of.LABELS]
            lacking = self._have(self.finetune.objective.name, ", ".join(has))
            wrong.append(f"finetune.objective: {lacking}")
        tune = self.finetune.tune
        if self.problem.LABELS not in getattr(tune, "LABELS", (self.problem.LABELS,)):
            wrong.append(
                f"finetune.tune: {tune.name} learns rows of one label each, which those of the "
                f"problem {self.problem.name} are not"
            )
        if self.augment.on_the_fly and self.modality.READS != "image":
            wrong.append("augment.on_the_fly: pictures alone are altered on the fly")
        if wrong:
            raise ValueError("; ".join(wrong))

    def _have(self, lacking: str, has: str) -> str:
        return f"the problem {self.problem.name} has no {lacking}; it has {has}"

    def _foreign(self) -> Iterator[str]:
        """Yield a line if transforms or baselines read another modality."""
        altered = (*self.augment.transforms, *self.evaluate.robustness.transforms)
        named = (*altered, *self.evaluate.baselines, *filter(None, [self.label_issues.model]))
        named = (*named, self.finetune.objective, self.finetune.tune)
        reads = self.modality.READS
        if foreign := [choice.name for choice in named if getattr(choice, "READS", reads) != reads]:
            yield f"{', '.join(foreign)}: not for the modality {self.modality.name}"

    def _metrics(self) -> Iterator[str]:
        """Yield a line for each named metric that the problem does not have."""
        known, less = self.problem.HEADLINES, self.problem.LESS
        more = tuple(name for name in known if name not in less)
        named: list[tuple[str, str, tuple[str, ...]]] = [
            ("finetune.best_metric", self.finetune.best_metric, (*known, "loss", "last")),
            (
                "evaluate.metric",
                self.evaluate.metric or self.problem.METRICS[0],
                self.problem.METRICS,
            ),
        ]
        for i, gate in enumerate(self.register.gates):
            if isinstance(gate, Floor | Ceiling):
                has = more if isinstance(gate, Floor) else less
                named.append((f"register.gates.{i}.metric", gate.metric, has))
        for place, metric, allowed in named:
            if metric not in allowed:
                yield f"{place}: {self._have(metric, ', '.join(allowed) or 'none')}"

    def _labels(self) -> Iterator[str]:
        """Yield a line for each setting that needs labels which the problem does not have."""
        kind, validate = self.problem.LABELS, self.validate
        asked = {
            "validate.min_rows_per_label": validate.min_rows_per_label,
            "validate.max_label_ratio": validate.max_label_ratio,
            "validate.label_distribution": validate.label_distribution,
        }
        yield from (
            f"{place}: the problem {self.problem.name} has no labels; say null"
            for place, value in asked.items()
            if kind == "none" and value is not None
        )
        if kind != "one" and self.label_issues.model:
            yield (
                f"label_issues.model: a row of the problem {self.problem.name} "
                "is not one label; say null"
            )
        for i, gate in enumerate(self.register.gates):
            if kind == "none" and isinstance(gate, EachLabel | Calibration | Slices):
                yield (
                    f"register.gates.{i}: {gate.name} is about labels, "
                    f"which the problem {self.problem.name} has not"
                )


def _named(choice: Any) -> str:
    """Return the name by which params.yaml has a choice of this type."""
    return get_args(get_type_hints(choice)["name"])[0]


@dataclass(frozen=True)
class Params(Strict):
    """All of params.yaml."""

    flows: Flows
    """when the DAG runs by itself"""
    sources: dict[Key, Source]
    """what fetch brings"""
    tasks: dict[Key, Task]
    """what is trained; a key names the task, its stages and its registered model"""
