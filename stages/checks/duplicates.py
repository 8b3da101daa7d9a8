"""Find samples that say the same thing.

Samples of equal content form one group; samples of equal content but different labels are set
aside.
"""

from typing import Any

import pandas as pd

from stages.contract import draws

SHOWN = 20  # origins that are listed for a group


def identify(exact: "pd.Series[str]", y: "pd.Series[Any]") -> "pd.Series[str]":
    """Return an id for each row: a hash of what it is and of its labels, and an occurrence number.

    exact says what each row is; y has its labels (list of string). The occurrence number counts
    equal rows in their order.
    """
    content = draws.digest(exact + "\0" + y.str.join("\0"))
    return content + "-" + content.groupby(content, sort=False).cumcount().astype(str)


def group(ids: "pd.Series[str]", alike: "pd.Series[Any]") -> "pd.Series[str]":
    """Return the group of each row: the smallest id among the rows with the same key."""
    result, shared = ids.copy(), alike.duplicated(keep=False)  # most rows share no key
    result[shared] = ids[shared].groupby(alike[shared]).transform("min")
    return result


def summarise(samples: pd.DataFrame) -> dict[str, Any]:
    """Return what a person should know about the groups of samples (manifest columns).

    That is how many rows share a group, the largest group, and the groups that have several labels.
    """
    sizes = samples["group"].value_counts()
    largest = samples.loc[samples["group"] == sizes.index[0], "origin"].tolist()
    return {
        "groups": len(sizes),
        "rows_that_share_a_group": int(sizes[sizes > 1].sum()),
        "largest": {"rows": int(sizes.iloc[0]), "origins": largest[:SHOWN]},
        "near_duplicates_with_different_labels": _contradictory(samples),
    }


def _contradictory(samples: pd.DataFrame) -> list[dict[str, list[str]]]:
    """Return the labels and the origins of each group that has several labels."""
    shared = samples[samples["group"].duplicated(keep=False)]  # most rows share no group
    stated = shared.assign(y=shared["y"].str.join(", ")).drop_duplicates(["group", "y"])
    labels: dict[Any, list[str]] = (
        stated[stated["group"].duplicated(keep=False)].groupby("group")["y"].agg(list).to_dict()
    )
    named: dict[Any, list[str]] = (
        shared[shared["group"].isin(list(labels))].groupby("group")["origin"].agg(list).to_dict()
    )
    return [{"labels": values, "origins": named[key][:SHOWN]} for key, values in labels.items()]


def conflicting(samples: pd.DataFrame, normal: "pd.Series[str]") -> "pd.Series[bool]":
    """Return True for each row whose normal form has several labels in the same given part.

    A train row that conflicts with a row of the data set's own test part is no reason to change
    that test part: the train row repeats a held-out row, and split drops it.
    """
    result = pd.Series(False, index=samples.index)
    same = samples[normal.duplicated(keep=False)]  # most rows repeat no other
    result[same.index] = (
        same["y"]
        .str.join("\0")
        .groupby([normal[same.index], same["given_part"].fillna("train")])
        .transform("nunique")
        > 1
    )
    return result
