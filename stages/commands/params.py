"""Show every setting of a task, with its meaning."""

from dataclasses import asdict, dataclass
from typing import Any

from stages.commands import reference
from stages.contract import settings


@dataclass(frozen=True)
class Shown:
    """A task, its settings, and the same as a block of params.yaml with each key's meaning."""

    task: str
    settings: dict[str, Any]
    block: str


def params(name: str) -> Shown:
    """Return the settings of a task, which are checked first."""
    task = settings.task(name)
    return Shown(name, asdict(task), reference.block(task, 2))


def told(found: Shown) -> list[str]:
    """Return the block as lines for a person to read."""
    return [f"{found.task}:", *found.block.splitlines()]
