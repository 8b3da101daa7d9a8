"""Draw at random for a purpose and a name, and hash texts.

No draw depends on order, on workers, or on another draw.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def integer(purpose: str, seed: int, name: str) -> int:
    """Return 64 bits that depend on (purpose, seed, name) alone.

    Two purposes give independent bits even if their seeds are equal.
    """
    return int.from_bytes(
        hashlib.blake2b(f"{purpose}:{seed}:{name}".encode(), digest_size=8).digest(), "big"
    )


def uniform(purpose: str, seed: int, name: str) -> float:
    """Return a number in [0, 1)."""
    return integer(purpose, seed, name) / 2**64


def digest(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Return a hash (20 hex digits) of each text."""
    return texts.map(digest_one).astype("str")


def digest_one(text: object) -> str:
    """Return a hash (20 hex digits) of a text."""
    return hashlib.blake2b(str(text).encode(), digest_size=10).hexdigest()
