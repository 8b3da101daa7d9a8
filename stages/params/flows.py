"""When the DAG runs by itself."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from stages.params.types import Count, Cron, Days, Positive, Strict, TimeZone


@dataclass(frozen=True)
class Pipeline(Strict):
    """The DAG, run on a schedule."""

    cron: Cron | None
    """minute, hour, day of the month, month, day of the week; null runs the DAG only on request"""
    refresh: bool
    """first update what `dvc import-url` and `dvc import` track (`dvc update`), and fetch the other
    sources anew"""


@dataclass(frozen=True)
class Watch(Strict):
    """A scheduled check whether retraining is due: changed data, drift, or an old champion."""

    cron: Cron | None
    """minute, hour, day of the month, month, day of the week; null checks only on request"""
    logged_days: Positive
    """days back to look at the predictions that `refit predict --log` kept"""
    max_far: Annotated[int, Field(ge=0)]
    """measures of their rows that may be beyond what the champion's own data shows"""
    max_age_days: Days | None
    """days since the champion became champion; null lets it grow old"""


@dataclass(frozen=True)
class Flows(Strict):
    """When the DAG runs by itself, and how."""

    timezone: TimeZone
    """time zone of cron"""
    side_by_side: Count
    """stages of independent tasks that run in parallel, each with its own task's threads"""
    retries: Annotated[int, Field(ge=0)]
    """retries of fetch and register, if a server did not answer or a lock was taken"""
    retry_seconds: Positive
    """seconds before each retry"""
    notify: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None
    """Prefect block that is notified of failures, champions and what is due, as TYPE/NAME, such as
    slack-webhook/team"""
    pipeline: Pipeline
    """the DAG"""
    watch: Watch
    """the check whether retraining is due"""
