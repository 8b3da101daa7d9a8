"""What register decided, and why: decision.json, written here and read here."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stages.contract import receipts
from stages.judging.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Candidate:
    """The version that was judged."""

    version: int
    run_id: str
    model_sha256: str


@dataclass(frozen=True)
class Data:
    """The data that it was judged on: its source, DVC's hash of that, and its test rows."""

    source: str
    md5: str
    test_rows: int


@dataclass(frozen=True)
class Lineage:
    """Where the code and the data came from."""

    git_commit: str
    dvc_lock_sha256: str


@dataclass(frozen=True)
class Drift:
    """How far this data is from that of the version judged against, measure by measure."""

    against: str
    measures: list[dict[str, Any]]


@dataclass(frozen=True)
class Decision:
    """One judgement of a candidate; damaged says why its rival could not be asked."""

    task: str
    outcome: Outcome
    against: str
    damaged: str | None
    candidate: Candidate
    data: Data
    lineage: Lineage
    verdicts: list[Verdict]
    drift: Drift | None

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        receipts.write_json(path, asdict(self))

    def reasons(self) -> str:
        """Return the reason of every verdict, on one line."""
        return "; ".join(verdict.reason for verdict in self.verdicts)


def read(path: Path) -> Decision:
    """Read decision.json."""
    return TypeAdapter(Decision).validate_json(path.read_bytes())
