"""When the DAG runs by itself."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from stages.params.types import Count, Cron, Days, Positive, Strict, TimeZone


@dataclass(frozen=True)
class Pipeline(Strict):
    """The DAG, run on a schedule."""

    cron: Cron | None
    """minute, hour, day of the month, month, day of the week; null runs it when it is asked for"""
    refresh: bool
    """first bring what `dvc import-url` and `dvc import` track up to date (`dvc update`), and fetch the other sources anew"""


@dataclass(frozen=True)
class Watch(Strict):
    """A look, on a schedule, at whether retraining is due: data that changed, drift, or a champion that is old."""

    cron: Cron | None
    """minute, hour, day of the month, month, day of the week; null looks when it is asked for"""
    logged_days: Positive
    """how far back predictions are looked at that `refit predict --log` kept"""
    max_far: Annotated[int, Field(ge=0)]
    """measures of these rows that may be beyond what the champion's own data shows"""
    max_age_days: Days | None
    """since the champion became it; null lets it grow old"""


@dataclass(frozen=True)
class Flows(Strict):
    """When the DAG runs by itself, and how."""

    timezone: TimeZone
    """in which cron is meant"""
    side_by_side: Count
    """stages of independent tasks that run at once, each with its own task's threads"""
    retries: Annotated[int, Field(ge=0)]
    """of fetch and register, where a server did not answer or a lock was held"""
    retry_seconds: Positive
    """before each"""
    notify: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None
    """a block of Prefect's that is told of failures, champions and what is due, as TYPE/NAME, such as slack-webhook/team"""
    pipeline: Pipeline
    """the DAG"""
    watch: Watch
    """whether it is due"""
