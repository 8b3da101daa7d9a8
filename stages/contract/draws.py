"""Draws at random for a purpose and a name, so that no draw depends on order, on workers, or on another draw."""

import hashlib


def integer(purpose: str, seed: int, name: str) -> int:
    """Return 64 bits that depend on (purpose, seed, name) alone; equal seeds of two purposes are still independent."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}:{seed}:{name}".encode(), digest_size=8).digest(), "big")


def uniform(purpose: str, seed: int, name: str) -> float:
    """Return a number in [0, 1)."""
    return integer(purpose, seed, name) / 2**64
