"""Finds samples that say the same: equal content is one group, equal content with different labels is set aside."""

import hashlib
from typing import Any

import pandas as pd

SHOWN = 20  # origins of a group


def digest(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Return a hash (20 hex digits) of each text."""
    return texts.map(digest_one)


def digest_one(text: object) -> str:
    """Return a hash (20 hex digits) of a text."""
    return hashlib.blake2b(str(text).encode(), digest_size=10).hexdigest()


def identify(exact: "pd.Series[str]", y: "pd.Series[Any]") -> "pd.Series[str]":
    """Return an id a row: the hash of what it is and of its labels (list of string), and an occurrence number for repeats.

    The occurrence number counts equal rows in their order.
    """
    content = digest(exact + "\0" + y.str.join("\0"))
    return content + "-" + content.groupby(content).cumcount().astype(str)


def group(ids: "pd.Series[str]", alike: "pd.Series[Any]") -> "pd.Series[str]":
    """Return a row's group: the smallest id among rows of the same key."""
    return ids.groupby(alike).transform("min")


def summarise(samples: pd.DataFrame) -> dict[str, Any]:
    """Return what a person should know of groups (manifest columns): how many rows share one, the largest, and those of several labels."""
    sizes = samples["group"].value_counts()
    shared = samples[samples["group"].map(sizes) > 1]  # most rows share none
    labels = shared["y"].str.join(", ").groupby(shared["group"]).unique()
    mixed = labels[labels.str.len() > 1]
    named: dict[Any, list[str]] = shared.groupby("group")["origin"].agg(list).to_dict()
    return {
        "groups": len(sizes),
        "rows_that_share_a_group": int(sizes[sizes > 1].sum()),
        "largest": {"rows": int(sizes.iloc[0]), "origins": samples.loc[samples["group"] == sizes.index[0], "origin"].tolist()[:SHOWN]},
        "near_duplicates_with_different_labels": [{"labels": list(of), "origins": named[key][:SHOWN]} for key, of in mixed.items()],
    }


def conflicting(samples: pd.DataFrame, normal: "pd.Series[str]") -> "pd.Series[bool]":
    """Return True for rows whose normal form stands with more than one label in the same given part.

    A train row at odds with a row of the test part that the data set gives is no reason to touch that test: it repeats
    a held-out row, and split drops it.
    """
    part = samples["given_part"].fillna("train")
    return samples["y"].str.join("\0").groupby([normal, part]).transform("nunique") > 1
