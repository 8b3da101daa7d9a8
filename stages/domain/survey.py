"""Say how far a data set is from what its base model was pretrained on.

It compares labels, traits of x, embeddings and activations.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.contract.errors import ParamsError
from stages.contract.escape import one_line
from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.domain import distances, profiles
from stages.domain.distances import Measure
from stages.domain.profiles import Profile
from stages.models.activations import Base, Seen
from stages.params.compute import Compute
from stages.params.validate import Declared, Domain, Pretrained, Uniform, Validate

# frechet went with a loss of macro-F1 on shifted sets (clouds.LOST)
COSTLY = ("labels", "script", "tokens_unknown", "frechet")
CLASSES = "validate.label_distribution.classes"


@dataclass(frozen=True)
class Survey:
    """How far a data set is from its reference.

    It says what the labels were compared with, which labels the reference does not know, and every
    distance.
    """

    own: Profile
    reference: str
    weights: dict[str, float]
    new: list[str]
    measures: list[Measure]
    untold: list[str]
    """why a measure is missing"""

    def far(self) -> str:
        """Return the distances beyond their limits.

        Those that bear on macro-F1 come in full, the farthest first, then the names of the others.
        """
        far = sorted((of for of in self.measures if of.far), key=lambda of: -of.over_limit)
        costly, others = (
            [of for of in far if (of.measure in COSTLY) is costs] for costs in (True, False)
        )
        named = f"{', '.join(of.measure for of in others)} differ too (domain.json)"
        return "; ".join([*map(str, costly), *([named] if others else [])])

    def unknown_tokens(self) -> float:
        """Return the share of tokens that the base model's tokenizer does not know.

        It is the mean over the texts looked at, and 0 for pictures.
        """
        return self._mean("tokens_unknown") or 0.0

    def reads(self) -> str:
        """Say how the base model's tokenizer reads the texts looked at.

        The result is empty for pictures, and if the base model has no tokenizer of the fast kind.
        """
        pieces = self._mean("tokens_a_word")
        return (
            ""
            if pieces is None
            else f"its tokenizer knows {1 - self.unknown_tokens():.1%} of the tokens, "
            f"{pieces:.2g} a word"
        )

    def _mean(self, trait: str) -> float | None:
        values = self.own.traits.get(trait)
        return sum(map(float, values)) / len(values) if values else None

    def document(self) -> dict[str, Any]:
        """Return the survey as JSON."""
        return {
            "labels_compared_with": self.reference,
            "labels_new_to_the_base": self.new,
            "rows": len(self.own.group),
            "reads": self.reads(),
            "measures": [of.document() for of in self.measures],
            "not_told": self.untold,
        }


def survey(
    samples: pd.DataFrame,
    label: "pd.Series[str]",
    looked: pd.DataFrame,
    of: tuple[Modality, Problem],
    base: Path,
    settings: tuple[Any, Compute],
    validate: Validate,
    labels: list[str],
) -> Survey:
    """Return how far samples are from what validate.domain names.

    looked has the same index as samples; label has the labels that rows bear, one at a time. Raises
    ProfileError and ParamsError.
    """
    want = validate.domain
    reference = _reference(want.profile, settings[0])
    how = (profiles.asked_as(reference, settings[0]), settings[1])
    taken, seen = _taken(samples, looked, of, base, how, want)
    rows = {name: int((label == name).sum()) for name in labels}
    own = replace(taken, labels={name: float(n) for name, n in rows.items()} or None)
    measures = [
        *distances.of_rows(reference, own, want.false_alarms, want.seed),
        *_of_activations(reference, own, seen, want.false_alarms),
    ]
    if validate.label_distribution is None:
        return Survey(own, "nothing", {}, [], measures, _untold(reference, own, "nothing"))
    kind = validate.label_distribution.name
    weights, new = _known(_weights(validate.label_distribution, labels, reference))
    known = {name: n for name, n in rows.items() if name in weights}
    if kind != "uniform" and len(known) > 1:
        of_labels = distances.of_labels(known, weights, None, want.false_alarms, want.seed)
        measures = [of_labels, *measures]
    return Survey(own, kind, weights, new, measures, _untold(reference, own, kind))


def _reference(name: str, modality: Any) -> Profile:
    """Return the profile of this name; raises ParamsError if it is of another modality."""
    reference = profiles.read(profiles.FOLDER / f"{name}.json")
    if reference.modality and reference.modality["name"] != modality.name:
        raise ParamsError(
            f"validate.domain.profile: {name} is one of the modality "
            f"{reference.modality['name']}; take another, or `unknown`"
        )
    return reference


def _taken(
    samples: pd.DataFrame,
    looked: pd.DataFrame,
    of: tuple[Modality, Problem],
    base: Path,
    how: tuple[Any, Compute],
    want: Domain,
) -> tuple[Profile, Seen | None]:
    """Return the profile of rows drawn from samples, and what the base model saw of them."""
    size = min(len(samples), want.sample)
    drawn = samples["id"].sort_values().sample(size, random_state=want.seed).index
    chosen = samples.loc[drawn].assign(group=0)
    made = {"of": "the validated rows of a task", "seed": str(want.seed), "rows": str(len(samples))}
    return profiles.take(made, chosen, looked.loc[drawn], of, base, how, want.run_base)


def _of_activations(
    reference: Profile, own: Profile, seen: Seen | None, false_alarms: float
) -> list[Measure]:
    """Return the distance of what the base model saw, or nothing if it cannot be compared."""
    if not seen or not reference.activations or reference.base != own.base:
        return []
    if len(own.group) < distances.LEAST_ROWS:
        return []
    return [distances.of_activations(reference.activations, seen, false_alarms)]


def _known(weights: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """Return the weights of the labels that the reference knows, and the other labels."""
    known = {name: weight for name, weight in weights.items() if weight}
    if not known:
        raise ParamsError(
            f"{CLASSES}: not one label covers a class of the base model; take uniform or declared"
        )
    return known, [name for name, weight in weights.items() if not weight]


def drift(reference: Profile, new: Profile, false_alarms: float, seed: int) -> list[Measure]:
    """Return how far data is from the data of an earlier version, by their profiles.

    It compares labels, if both profiles have them, traits and embeddings.
    """
    of_labels = list[Measure]()
    if reference.labels and new.labels:
        names = sorted(reference.labels.keys() | new.labels.keys())
        now, before = (
            {name: int(of.get(name, 0)) for name in names} for of in (new.labels, reference.labels)
        )
        shares = {name: float(n) for name, n in before.items()}
        of_labels = [distances.of_labels(now, shares, sum(before.values()), false_alarms, seed)]
    return [*of_labels, *distances.of_rows(reference, new, false_alarms, seed)]


def distances_of_rows(
    profile: str, rows: pd.DataFrame, base: Base, most: int
) -> "pd.Series[float] | None":
    """Return how far the embedding of each manifest row is from those of the reference.

    The result is None if the reference knows nothing of this base. If the base has not seen the
    rows as the reference was encoded, it sees only `most` of them, drawn by their ids, and the
    others are left out. The distance is Mahalanobis distance (1936) in the directions that profiles
    keep, over the root of their number: 1 is usual in the reference itself.
    """
    reference = profiles.read(profiles.FOLDER / f"{profile}.json")
    if reference.embeddings is None or reference.base != profiles.identity(base.folder):
        return None
    modality = profiles.asked_as(reference, base.modality)
    if not base.holds(rows, modality):
        rows = rows.sort_values("id").head(most)  # ids are hashes: their order is a draw
    known, asked = profiles.embeddings(reference), profiles.project(base.embed(rows, modality))
    return pd.Series(_mahalanobis(known, asked), rows.index)


def _mahalanobis(known: NDArray[Any], asked: NDArray[Any]) -> NDArray[Any]:
    """Return the distance of each asked row from the known ones, over the root of their width."""
    spread = np.cov(known, rowvar=False)
    spread += 1e-3 * np.trace(spread) / len(spread) * np.eye(len(spread))
    off = asked - known.mean(axis=0)
    return np.sqrt((off * np.linalg.solve(spread, off.T).T).mean(axis=1))


def _weights(
    distribution: Uniform | Declared | Pretrained, labels: list[str], reference: Profile
) -> dict[str, float]:
    """Return what labels are compared with; one that covers no class of the base model has 0."""
    match distribution:
        case Uniform():
            return dict.fromkeys(labels, 1.0)
        case Declared():
            return distribution.weights
        case Pretrained():
            if reference.labels is None:
                raise ParamsError(
                    "validate.label_distribution: the profile knows of no classes "
                    "that the base model was pretrained to tell; take uniform or declared"
                )
            return _of_classes(distribution, labels, reference.labels)


def _of_classes(
    distribution: Pretrained, labels: list[str], known: dict[str, float]
) -> dict[str, float]:
    """Return how frequent the classes are that each label covers; known are all of the base's."""
    if lacking := sorted(set(labels) - distribution.classes.keys()):
        raise ParamsError(
            f"{CLASSES}: has no {', '.join(one_line(of, 40) for of in lacking)}; "
            "say [] where the base knows none such"
        )
    wanted = {
        name: [str(i) for first, last in distribution.classes[name] for i in range(first, last + 1)]
        for name in labels
    }
    if strange := sorted({i for of in wanted.values() for i in of} - known.keys()):
        raise ParamsError(
            f"{CLASSES}: the profile knows of no class {', '.join(strange[:5])}; "
            f"it has {len(known)}, from 0"
        )
    return {name: sum(known[i] for i in of) for name, of in wanted.items()}


def _untold(reference: Profile, own: Profile, labels: str) -> list[str]:
    """Return why measures are missing, one line for each."""
    held, here = len(reference.group), len(own.group)
    reasons = {
        (
            "labels: no class frequencies of pretraining are known; "
            "uniform is assumed, which nobody claims"
        ): reference.labels is None and labels == "uniform",
        (
            "rows: nothing is known of what the base model was pretrained on; "
            "`refit profile` makes a profile of such rows"
        ): not held,
        (
            f"rows: the reference has {held}, the data {here}; "
            f"{distances.LEAST_ROWS} are needed of each"
        ): 0 < min(held, here) < distances.LEAST_ROWS,
        "embeddings: the base model is not run (validate.domain.run_base)": own.embeddings is None,
        "embeddings: the profile has none": reference.embeddings is None,
        "embeddings: the profile's are of another base model": (
            reference.embeddings is not None and reference.base != own.base
        ),
        "activations: no BatchNorm statistics of pretraining are known": (
            reference.activations is None
        ),
    }
    return [line for line, true in reasons.items() if true]
