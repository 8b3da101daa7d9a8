"""Keep what is known of a reference that data is compared with.

A profile is a sample of the reference's rows, as numbers, in one small JSON file.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stages.contract import plugins, receipts
from stages.contract.errors import ProfileError
from stages.contract.escape import one_line
from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.models import activations
from stages.models.activations import Seen
from stages.params.compute import Compute

FOLDER = Path("data/profiles")
MAX_BYTES = 20_000_000
DIMENSIONS = 32  # of projected embeddings


@dataclass(frozen=True)
class Profile:
    """What is known of a reference; null is what is not known.

    Rows belong to groups, by where each comes from.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    made: dict[str, str]
    """how and from what it was made"""
    base: str | None
    """sha256 of the weights and tokenizer that gave token traits, embeddings and activations"""
    modality: dict[str, Any] | None
    """settings that x was encoded with"""
    labels: dict[str, float] | None
    """how frequent each label, or class of the base model, is"""
    group: list[int]
    """the group of each row"""
    traits: dict[str, list[float] | list[str]]
    """traits of x by name: a value for each row"""
    embeddings: str | None
    """(rows, DIMENSIONS) as little-endian float16, base64"""
    activations: dict[str, list[float]] | None
    """mean divergences from the BatchNorm statistics, by number of rows

    There is one for each of many draws of so many rows of the reference.
    """


def read(path: Path) -> Profile:
    """Read and check a profile; raises ProfileError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ProfileError(f"{path}: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,}")
        profile = TypeAdapter(Profile).validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise ProfileError(
            f"{path}: there is no such profile; "
            "`refit profile` makes one, and `unknown` has nothing"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ProfileError(
            f"{path}: is no profile ({one_line(str(first['loc']) + ': ' + first['msg'], 300)})"
        ) from None
    if not _is_whole(profile):
        raise ProfileError(
            f"{path}: is no profile: its columns are not of as many rows as it has; "
            "make it anew with `refit profile`"
        )
    return profile


def _is_whole(profile: Profile) -> bool:
    """Return whether the columns have as many rows as the profile, and what they hold is usable."""
    try:
        rows = {
            len(profile.group),
            *map(len, profile.traits.values()),
            *([] if profile.embeddings is None else [len(embeddings(profile))]),
        }
        return (
            len(rows) == 1
            and all(size.isdecimal() and of for size, of in (profile.activations or {}).items())
            and bool(np.isfinite(embeddings(profile)).all())
        )
    except ValueError:  # embeddings are not base64, or not of this number of rows
        return False


def write(profile: Profile, path: Path) -> None:
    """Write a profile, one field on each line; equal profiles give equal bytes."""
    lines = [
        f"{json.dumps(name)}: "
        f"{json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)}"
        for name, value in asdict(profile).items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def take(
    made: dict[str, str],
    rows: pd.DataFrame,
    looked: pd.DataFrame,
    of: tuple[Modality, Problem],
    base: Path,
    settings: tuple[Any, Compute],
    run_base: bool,
) -> tuple[Profile, Seen | None]:
    """Return the profile of rows, and what the base model saw of them if it is run.

    rows has x and group, and content if it is known. looked is what the modality saw of the rows
    (same index), base is the folder of the base model, settings are those of the modality and of
    compute.
    """
    traits = of[0].reading.traits(rows["x"], looked, base)
    columns = {str(name): _written(column) for name, column in traits.items()}
    seen = activations.see(base, rows, *of, *settings) if run_base else None
    modality, group = json.loads(json.dumps(asdict(settings[0]))), rows["group"].tolist()
    embeddings = encoded(project(seen.embeddings)) if seen else None
    return Profile(made, identity(base), modality, None, group, columns, embeddings, None), seen


def _written(trait: "pd.Series[Any]") -> list[Any]:
    """Return the values of a trait, numbers with four digits."""
    return trait.tolist() if trait.dtype == object else [float(f"{value:.4g}") for value in trait]


def asked_as(reference: Profile, settings: Any) -> Any:
    """Return the modality's settings for measuring rows that a reference is compared with.

    They are the reference's own if it has settings of this modality.
    """
    same = reference.modality and reference.modality["name"] == settings.name
    return plugins.settings(reference.modality) if reference.modality and same else settings


def identity(base: Path) -> str:
    """Return one sha256 of what a base model computes with: weights and tokenizer."""
    return receipts.digest(
        receipts.files(
            base,
            [
                path.name
                for path in sorted(base.iterdir())
                if path.suffix == ".safetensors" or path.name == "tokenizer.json"
            ],
        )
    )


def project(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings in DIMENSIONS directions, which are drawn once for each width.

    Two profiles of one base can therefore be compared. Distances are kept within some 20 % (Johnson
    and Lindenstrauss 1984), and no direction is lost that the reference never took.
    """
    width = embeddings.shape[1]
    directions, _ = np.linalg.qr(
        np.random.default_rng(width).standard_normal((width, min(width, DIMENSIONS)))
    )
    return (embeddings @ directions).astype(np.float32)


def encoded(embeddings: NDArray[Any]) -> str:
    """Return embeddings (rows, DIMENSIONS) as a profile stores them."""
    return b64encode(embeddings.astype("<f2").tobytes()).decode()


def embeddings(profile: Profile) -> NDArray[np.float64]:
    """Return the embeddings of a profile's rows (rows, DIMENSIONS).

    There are none if the base model was not run.
    """
    rows = np.frombuffer(b64decode(profile.embeddings or "", validate=True), "<f2").astype(float)
    return rows.reshape(max(len(profile.group), 1), -1)
