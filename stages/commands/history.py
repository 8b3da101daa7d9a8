"""Show which version was champion when: every move of the alias, from the registry's record."""

from dataclasses import dataclass
from typing import Any

from stages.commands import versions
from stages.contract.escape import one_line
from stages.registry import decisions


@dataclass(frozen=True)
class Result:
    """The moves of a model's alias (from, to, who, when, why), the first one first.

    champion is the version that the last move made champion.
    """

    model: str
    champion: int | None
    moves: list[dict[str, Any]]


def history(model: str) -> Result:
    """Return the moves of a model's alias.

    Moves that were made outside Refit are found and recorded first.
    """
    moves = decisions.history(versions.name(model))
    return Result(model, moves[-1].after if moves else None, [move.document() for move in moves])


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    champion = f"version {found.champion} is champion" if found.champion else "no champion"
    return [
        *map(spelled, found.moves),
        f"{found.model}: {champion}, moves of the alias: {len(found.moves)}",
    ]


def spelled(move: dict[str, Any]) -> str:
    """Return a move of the alias as one line."""
    left, reached = (f"version {move[key]}" if move[key] else "none" for key in ("from", "to"))
    return one_line(f"{move['when']}  {left} -> {reached}  by {move['who']}: {move['why']}")
