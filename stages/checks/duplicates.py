"""Finds samples that say the same: equal content is one group, equal content with different labels is set aside."""

import hashlib

import pandas as pd


def identify(samples: pd.DataFrame) -> "pd.Series[str]":
    """Return an id a row: the hash of content and label, and an occurrence number for repeats.

    Needs columns x and y (list of string); the occurrence number counts equal rows in their order.
    """
    content = samples["x"] + "\0" + samples["y"].str.join("\0")
    digest = content.map(lambda text: hashlib.blake2b(str(text).encode(), digest_size=10).hexdigest())
    return digest + "-" + digest.groupby(digest).cumcount().astype(str)


def group(ids: "pd.Series[str]", normal: "pd.Series[str]") -> "pd.Series[str]":
    """Return a row's group: the smallest id among rows of the same normal form."""
    return ids.groupby(normal).transform("min")


def conflicting(samples: pd.DataFrame, normal: "pd.Series[str]") -> "pd.Series[bool]":
    """Return True for rows whose normal form stands with more than one label in the same given part.

    A train row at odds with a row of the test part that the data set gives is no reason to touch that test: it repeats
    a held-out row, and split drops it.
    """
    part = samples["given_part"].fillna("train")
    return samples["y"].str.join("\0").groupby([normal, part]).transform("nunique") > 1
