"""Goes back to an earlier champion, and marks the version that is left as withdrawn."""

from dataclasses import dataclass
from typing import Any

from stages.commands import versions
from stages.contract.errors import RegistryError
from stages.registry import decisions, registered


@dataclass(frozen=True)
class Result:
    """The move that was made: from, to, who, when, why."""

    model: str
    move: dict[str, Any]


def rollback(model: str, to: int | None, why: str) -> Result:
    """Move the alias to the champion before this one, or to version `to`, which has been champion; its bytes are verified first."""
    name = versions.name(model)
    moves = decisions.history(name)
    champion = moves[-1].after if moves else None
    target = _target(name, moves, champion, to)
    versions.require_whole(target)
    return Result(
        model, made(decisions.move(target, champion, why, withdraw=True), name).document()
    )


def made(move: decisions.Move | None, name: str) -> decisions.Move:
    """Return a move that was made; raises RegistryError where another one was meanwhile."""
    if move is None:
        raise RegistryError(
            f"{name}: the champion moved meanwhile, and nothing was changed; look at `refit history {name}`, and repeat"
        )
    return move


def _target(
    name: str, moves: list[decisions.Move], champion: int | None, to: int | None
) -> registered.Version:
    """Return the version to go back to: the last champion before this one that is there and not withdrawn."""
    there = {of.number: of for of in registered.versions(name)}
    if to is not None and to not in there:
        return registered.version(name, str(to))  # says what there is
    before = [
        of
        for of in (there.get(move.before or 0) for move in reversed(moves))
        if of and of.number != champion
    ]
    fit = [of for of in before if not of.withdrawn and to in (None, of.number)]
    if fit:
        return fit[0]
    if to is None:
        raise RegistryError(
            f"{name}: there is no earlier champion to go back to; `refit promote {name} N` names any version"
        )
    if to == champion:
        raise RegistryError(f"{name}: version {to} is the champion already; name an earlier one")
    fact = (
        f"was withdrawn {there[to].withdrawn}" if there[to].withdrawn else "has never been champion"
    )
    raise RegistryError(
        f"{name}: version {to} {fact}; `refit promote {name} {to}` makes it champion all the same"
    )
