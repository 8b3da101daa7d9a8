"""Choose the settings that a starter leaves to the data.

Each case of the starter that fits the data changes settings, and says why. The cases are in the
starters, text_classification.yaml and image_classification.yaml; docs/defaults.md explains what
they rest on.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from stages.commands import estimate
from stages.contract import plugins
from stages.params.finetune import Freeze
from stages.params.task import Task

LOOKED_AT = 2_000  # texts
MOST_MINUTES = 10.0  # of training on this machine, if the starter knows a cheaper way


@dataclass(frozen=True)
class Facts:
    """The facts that decide which cases fit.

    They describe the rows to learn from and, for texts, also what the base can read of them.
    imbalance is the number of rows of the largest label divided by the number of the smallest, or 1
    if a loss cannot weigh labels; foreign is the share of texts in a script that is not Latin,
    script the most frequent of those scripts, and unknown the share of tokens that the base does
    not know (null if the base is not here).
    """

    rows: int
    rows_a_label: float
    imbalance: float
    foreign: float = 0.0
    script: str = "LATIN"
    unknown: float | None = None

    def unread(self, base: str) -> str:
        """Return how much of the texts a base cannot read, as a phrase to insert."""
        return (
            f", and {base} does not know {self.unknown:.0%} of their tokens" if self.unknown else ""
        )


def look(
    good: pd.DataFrame, borne: "pd.Series[str]", texts: bool, base: Path, one_label: bool
) -> Facts:
    """Return the facts about good rows (x, given_part) and their labels.

    borne has the labels of the rows, one at a time; base is the folder of the model that would
    learn.
    """
    learned = good[good["given_part"].isna() | (good["given_part"] == "train")]
    rows = borne[borne.index.isin(learned.index)].value_counts()
    of_labels = (
        len(learned),
        float(rows.mean() if len(rows) else len(learned)),
        float(rows.max() / rows.min() if one_label else 1.0),
    )
    if not texts:
        return Facts(*of_labels)
    return Facts(*of_labels, *_read(good["x"].iloc[:: -(-len(good) // LOOKED_AT)], base))


def _read(x: "pd.Series[str]", base: Path) -> tuple[float, str, float | None]:
    """Return what the base reads of texts: foreign, script and unknown of their facts."""
    characters = pd.DataFrame({"characters": x.str.len()})
    traits = plugins.modality("text").reading.traits(x, characters, base)
    foreign = traits["script"][~traits["script"].isin(["LATIN", "none"])]
    script = str(foreign.mode().iloc[0]) if len(foreign) else "LATIN"
    unknown = float(traits["tokens_unknown"].mean()) if "tokens_unknown" in traits else None
    return len(foreign) / len(x), script, unknown


def apply(start: dict[str, Any], facts: Facts, named: bool) -> list[str]:
    """Apply the cases of a starter that fit the facts, in their order, and return why.

    A case fits if the facts are in its ranges [from, below); it then changes the starter's
    settings. A case that chooses a base is skipped if the user named the base.
    """
    known, why = (
        dict[str, Any](asdict(facts)) | {"unread": facts.unread(start["base"])},
        list[str](),
    )
    for case in start.pop("cases"):
        if not (named and "base" in case["set"]) and all(
            _within(known[name], *bounds) for name, bounds in case["when"].items()
        ):
            merge(start, case["set"])
            why.append(case["why"].format(**known))
    return why


def faster(
    task: Task, cases: list[dict[str, Any]], rows: int, measured: estimate.Measured
) -> tuple[Task, list[str]]:
    """Return the task with a way to learn that is fast enough, and why.

    It is the first of the starter's ways that takes at most MOST_MINUTES on this machine, else the
    last.
    """
    seconds, why = estimate.training(task, rows, measured), list[str]()
    for case in cases:
        if seconds <= 60 * MOST_MINUTES:
            break
        other = _changed(task, case["set"])
        tune, takes = other.finetune.tune, estimate.training(other, rows, measured)
        has_layers = not isinstance(tune, Freeze) or tune.layers < measured.layers
        if has_layers and takes < seconds:
            task, why, seconds = other, [case["why"].format(minutes=seconds / 60)], takes
    return task, why


def _changed(task: Task, changes: dict[str, Any]) -> Task:
    settings = json.loads(json.dumps(asdict(task)))
    merge(settings, changes)
    return TypeAdapter(Task).validate_json(json.dumps(settings))


def merge(into: dict[str, Any], changed: dict[str, Any]) -> None:
    """Merge changes into nested settings; a setting that is chosen by name is replaced whole."""
    for key, value in changed.items():
        if isinstance(value, dict) and "name" not in value and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def _within(value: Any, least: float | None, below: float | None) -> bool:
    return (
        value is not None and (least is None or value >= least) and (below is None or value < below)
    )
