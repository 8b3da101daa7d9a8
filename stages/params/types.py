"""The types in which every section of params.yaml is written: keys, counts, shares, ranges."""

import zoneinfo
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field


def relative(path: str) -> str:
    """Refuse an absolute path, one with `..` and one that is not written plainly."""
    if (
        path != PurePosixPath(path).as_posix()
        or path.startswith("/")
        or ".." in PurePosixPath(path).parts
    ):
        raise ValueError("must be a relative path without '..'")
    return path


def zone(name: str) -> str:
    """Refuse a name that is not a time zone's."""
    if name not in zoneinfo.available_timezones():
        raise ValueError("is no time zone by that name; say one such as Europe/Berlin or UTC")
    return name


def ascending(pair: tuple[int, int]) -> tuple[int, int]:
    """Refuse a pair whose first number is the greater one."""
    if pair[0] > pair[1]:
        raise ValueError("must be [least, most]")
    return pair


def all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse values if one is named twice."""
    if len(set(values)) < len(values):
        raise ValueError("must name each once")
    return values


def distinct(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse choices if one is named twice."""
    names = [choice.name for choice in choices]
    if len(set(names)) < len(names):
        raise ValueError("must name each choice once")
    return choices


Key = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=60)]
Text = Annotated[str, Field(min_length=1)]
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(relative)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, lt=2**53)]
Days = Annotated[float, Field(gt=0, le=36_500)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Range = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], AfterValidator(ascending)
]
Rows = Annotated[tuple[Count, Count], AfterValidator(ascending)]
Part = Literal["train", "validation", "test"]
Metric = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]  # one that the problem has
Finite = Annotated[float, Field(allow_inf_nan=False)]
Encoding = Literal["utf-8", "gb18030"]
TimeZone = Annotated[str, AfterValidator(zone)]
Cron = Annotated[str, Field(pattern=r"^\S+( \S+){4}$")]


class Strict:
    """The base of every section, which refuses unknown keys, other types and NaN."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
