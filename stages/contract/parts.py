"""Assign groups of originals to parts, so that no copy or duplicate crosses from train to test.

This is a pure function of the manifest and the split settings: augment calls it too, so that it
spends nothing on held-out rows.
"""

from dataclasses import dataclass

import pandas as pd

from stages.contract import draws
from stages.contract.errors import DataError
from stages.contract.escape import extract
from stages.contract.manifest import PARTS
from stages.params.augment import Split

ANY = "any class"  # the stratum of rows that have none
# A group that is in two given parts goes to the one that is held out.
RANK = {"test": 0, "validation": 1, "train": 2}


@dataclass(frozen=True)
class Parting:
    """The part of each row.

    `part`: a row's part, null if the row is dropped. `repeats`: whether a row of a given part
    repeats a held-out one. `filled`: groups that were moved because their class had none in a part.
    """

    part: "pd.Series[str]"
    repeats: "pd.Series[bool]"
    filled: pd.DataFrame


def assign(samples: pd.DataFrame, split: Split) -> Parting:
    """Return the part of each row; rows without a stratum form one stratum.

    A hash of (seed, group) decides where a group goes: adding rows moves no old group, and classes
    are parted alike in expectation. A part that the data set gives is honoured and never added to;
    validation and test contain originals only.
    """
    given, strata = samples["given_part"], samples["stratum"].fillna(ANY)
    rank = given.map(RANK).fillna(RANK["train"]).groupby(samples["group"]).transform("min")
    held_out = rank < RANK["train"]
    part = rank.map({v: k for k, v in RANK.items()})
    repeats = held_out & (given != part) & (samples["id"] == samples["source_id"])

    cut = {
        name: share
        for name, share in (("test", split.test), ("validation", split.validation))
        if not (given == name).any()
    }
    free = (
        samples.loc[~held_out, ["group"]]
        .assign(stratum=strata)
        .drop_duplicates("group")
        .set_index("group")["stratum"]
    )
    placed, filled = _cut(free, cut, split.seed)
    part = part.where(held_out, samples["group"].map(placed))

    copy_held_out = (samples["id"] != samples["source_id"]) & (part != "train")
    part = part.mask(repeats | (held_out & (given != part)) | copy_held_out)
    _require_every_class(part, strata)
    return Parting(part, repeats, filled)


def _cut(
    free: "pd.Series[str]", cut: dict[str, float], seed: int
) -> tuple["pd.Series[str]", pd.DataFrame]:
    """Place groups (index) by hash threshold, and fill a part that a stratum (value) would lack."""
    draw = pd.Series(
        [draws.uniform("part", seed, group) for group in free.index], index=free.index, dtype=float
    )
    placed = pd.Series("train", index=free.index)
    threshold, filled = 0.0, []
    for name, share in cut.items():
        placed[(draw >= threshold) & (draw < threshold + share)] = name
        threshold += share
    for stratum, groups in free.groupby(free):
        for name in (*cut, "train"):
            mine = placed[groups.index]
            donor = mine.value_counts().idxmax()
            if not (mine == name).any() and (mine == donor).sum() > 1:
                low = draw[mine.index[mine == donor]]
                nearest = str(low.idxmin() if donor == "train" else low.idxmax())
                placed[nearest] = name
                filled.append({"stratum": stratum, "part": name, "group": nearest})
    return placed, pd.DataFrame(filled, columns=["stratum", "part", "group"])


def _require_every_class(part: "pd.Series[str]", strata: "pd.Series[str]") -> None:
    present = {name: set(strata[part == name]) for name in PARTS}
    lacking = [
        f"{name} has no row of {extract(label)}"
        for name in PARTS
        for label in sorted(set(strata) - present[name])
    ]
    if lacking:
        raise DataError(
            f"parts: {'; '.join(lacking[:10])}; "
            "every class must be in every part (three different samples at least): "
            "label more rows of it, leave it out, or change tasks.*.split"
        )
