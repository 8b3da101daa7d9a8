"""Finds samples that say the same: equal content is one group, equal content with different labels is set aside."""

from typing import Any

import pandas as pd

from stages.contract import draws

SHOWN = 20  # origins of a group


def identify(exact: "pd.Series[str]", y: "pd.Series[Any]") -> "pd.Series[str]":
    """Return an id a row: the hash of what it is and of its labels (list of string), and an occurrence number for repeats.

    The occurrence number counts equal rows in their order.
    """
    content = draws.digest(exact + "\0" + y.str.join("\0"))
    return content + "-" + content.groupby(content, sort=False).cumcount().astype(str)


def group(ids: "pd.Series[str]", alike: "pd.Series[Any]") -> "pd.Series[str]":
    """Return a row's group: the smallest id among rows of the same key."""
    found, shared = ids.copy(), alike.duplicated(keep=False)  # most rows share none
    found[shared] = ids[shared].groupby(alike[shared]).transform("min")
    return found


def summarise(samples: pd.DataFrame) -> dict[str, Any]:
    """Return what a person should know of groups (manifest columns): how many rows share one, the largest, and those of several labels."""
    sizes = samples["group"].value_counts()
    shared = samples[samples["group"].duplicated(keep=False)]  # most rows share none
    stated = shared.assign(y=shared["y"].str.join(", ")).drop_duplicates(["group", "y"])
    labels: dict[Any, list[str]] = (
        stated[stated["group"].duplicated(keep=False)].groupby("group")["y"].agg(list).to_dict()
    )
    named: dict[Any, list[str]] = (
        shared[shared["group"].isin(list(labels))].groupby("group")["origin"].agg(list).to_dict()
    )
    return {
        "groups": len(sizes),
        "rows_that_share_a_group": int(sizes[sizes > 1].sum()),
        "largest": {
            "rows": int(sizes.iloc[0]),
            "origins": samples.loc[samples["group"] == sizes.index[0], "origin"].tolist()[:SHOWN],
        },
        "near_duplicates_with_different_labels": [
            {"labels": of, "origins": named[key][:SHOWN]} for key, of in labels.items()
        ],
    }


def conflicting(samples: pd.DataFrame, normal: "pd.Series[str]") -> "pd.Series[bool]":
    """Return True for rows whose normal form stands with more than one label in the same given part.

    A train row at odds with a row of the test part that the data set gives is no reason to touch that test: it repeats
    a held-out row, and split drops it.
    """
    found = pd.Series(False, index=samples.index)
    same = samples[normal.duplicated(keep=False)]  # most rows say what no other says
    found[same.index] = (
        same["y"]
        .str.join("\0")
        .groupby([normal[same.index], same["given_part"].fillna("train")])
        .transform("nunique")
        > 1
    )
    return found
