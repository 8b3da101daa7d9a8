"""Go back to an earlier champion, and mark the version that it replaces as withdrawn."""

from dataclasses import dataclass
from typing import Any

from stages.commands import history, versions
from stages.contract.errors import RegistryError
from stages.registry import decisions, registered


@dataclass(frozen=True)
class Result:
    """The move that was made: from, to, who, when, why."""

    model: str
    move: dict[str, Any]


def rollback(model: str, to: int | None, why: str) -> Result:
    """Move the alias back to an earlier champion, after verifying its bytes.

    That is the champion before this one, or version `to`, which has to have been champion.
    """
    name = versions.name(model)
    moves = decisions.history(name)
    champion = moves[-1].after if moves else None
    target = _target(name, moves, champion, to)
    versions.require_whole(target)
    return Result(
        model, made(decisions.move(target, champion, why, withdraw=True), name).document()
    )


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    return [f"{found.model}: {history.spelled(found.move)}"]


def made(move: decisions.Move | None, name: str) -> decisions.Move:
    """Return a move that was made; raise RegistryError if another one was made meanwhile."""
    if move is None:
        raise RegistryError(
            f"{name}: the champion moved meanwhile, and nothing was changed; look at "
            f"`refit history {name}`, and repeat"
        )
    return move


def _target(
    name: str, moves: list[decisions.Move], champion: int | None, to: int | None
) -> registered.Version:
    """Return the version to go back to.

    It is the last champion before this one that exists and is not withdrawn.
    """
    by_number = {version.number: version for version in registered.versions(name)}
    if to is not None and to not in by_number:
        return registered.version(name, str(to))  # raises, and says what there is
    before = [
        version
        for version in (by_number.get(move.before or 0) for move in reversed(moves))
        if version and version.number != champion
    ]
    fit = [version for version in before if not version.withdrawn and to in (None, version.number)]
    if fit:
        return fit[0]
    raise RegistryError(
        f"{name}: there is no earlier champion to go back to; `refit promote {name} N` names "
        "any version"
        if to is None
        else _unfit(by_number[to], champion)
    )


def _unfit(version: registered.Version, champion: int | None) -> str:
    """Return why no one goes back to a version that was named."""
    name, number = version.name, version.number
    if number == champion:
        return f"{name}: version {number} is the champion already; name an earlier one"
    fact = f"was withdrawn {version.withdrawn}" if version.withdrawn else "has never been champion"
    return (
        f"{name}: version {number} {fact}; `refit promote {name} {number}` makes it champion all "
        "the same"
    )
