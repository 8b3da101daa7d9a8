"""Find a plug-in by its name in params.yaml, and know what follows from the plug-in's own words.

A plug-in is a module: stages/KIND/NAME.py; a modality is a folder of modules. There is no registry
and no decorator to keep in step with it. What each offers is defined in protocols.py, problem.py
and modality.py.
"""

import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter

from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.contract.protocols import Export, Format, Layout, Loop, Objective, Source, Tune
from stages.params.task import Task

if TYPE_CHECKING:
    import pandas as pd

Plugin = TypeVar("Plugin")


@dataclass(frozen=True)
class Kind(Generic[Plugin]):
    """A folder of plug-ins that offer the same; called with a name, it returns that plug-in."""

    folder: str

    def __call__(self, name: str) -> Plugin:
        """Return the module stages/FOLDER/NAME.py."""
        return cast(Plugin, import_module(f"stages.{self.folder.replace('/', '.')}.{name}"))


source = Kind[Source]("sources")
format = Kind[Format]("formats")
layout = Kind[Layout]("layouts")
problem = Kind[Problem]("problems")
tune = Kind[Tune]("methods/tune")
objective = Kind[Objective]("methods/objective")
loop = Kind[Loop]("methods/loop")
export = Kind[Export]("methods/export")
modality = Modality  # a folder of modules


def labels(of_y: Problem, values: "pd.Series[Any]") -> list[str]:
    """Return the labels that values name, in the order of a model's outputs: sorted."""
    return sorted(of_y.borne(values).unique())


def outputs(labels: list[str]) -> int:
    """Return how many outputs a model has: one for each label, or one if there are no labels."""
    return max(len(labels), 1)


def settings(section: dict[str, Any]) -> Any:
    """Return a modality's settings from JSON, checked like the settings in params.yaml."""
    return TypeAdapter(get_type_hints(Task, include_extras=True)["modality"]).validate_json(
        json.dumps(section)
    )


def deciding(of_y: Problem, metric: str | None) -> str:
    """Return the metric that decides: the one in evaluate.metric, else the problem's first."""
    return metric or next(iter(of_y.METRICS))
