"""Leaves the files of a source as they came."""

from pathlib import Path

from stages.params.sources import AsIs


def convert(_folder: Path, _: AsIs) -> None:
    """Do nothing: Refit reads the files as they are."""
