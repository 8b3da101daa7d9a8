"""Find a plug-in by its name in params.yaml, and know what follows from the plug-in's own words.

A plug-in is a module: stages/KIND/NAME.py; a modality is a folder of modules. There is no registry
and no decorator to keep in step with it. protocols.py and modality.py define what each offers.
"""

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from pydantic import TypeAdapter

from stages.contract.modality import Modality
from stages.contract.protocols import Format, Layout, Loop, Objective, Problem, Source, Tune
from stages.params.task import Task

if TYPE_CHECKING:
    import pandas as pd


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


def source(name: str) -> Source:
    """Return the module stages/sources/NAME.py."""
    return cast(Source, import_module(f"stages.sources.{name}"))


def format(name: str) -> Format:
    """Return the module stages/formats/NAME.py."""
    return cast(Format, import_module(f"stages.formats.{name}"))


def layout(name: str) -> Layout:
    """Return the module stages/layouts/NAME.py."""
    return cast(Layout, import_module(f"stages.layouts.{name}"))


def modality(name: str) -> Modality:
    """Return the modules of stages/modalities/NAME/."""
    return Modality(name)


def problem(name: str) -> Problem:
    """Return the module stages/problems/NAME.py."""
    return cast(Problem, import_module(f"stages.problems.{name}"))


def tune(name: str) -> Tune:
    """Return the module stages/methods/tune/NAME.py."""
    return cast(Tune, import_module(f"stages.methods.tune.{name}"))


def objective(name: str) -> Objective:
    """Return the module stages/methods/objective/NAME.py."""
    return cast(Objective, import_module(f"stages.methods.objective.{name}"))


def loop(name: str) -> Loop:
    """Return the module stages/methods/loop/NAME.py."""
    return cast(Loop, import_module(f"stages.methods.loop.{name}"))
