"""Make a version champion because a person says so, with the reason."""

from stages.commands import versions
from stages.commands.rollback import Result, made
from stages.contract.errors import RegistryError
from stages.registry import decisions, registered


def promote(model: str, number: int, why: str) -> Result:
    """Move the alias to a version, after verifying its bytes.

    A version that was withdrawn is no longer withdrawn.
    """
    name = versions.name(model)
    if not why.strip():
        raise RegistryError(f"{name}: say why version {number} is to be champion: --why TEXT")
    version, moves = registered.version(name, str(number)), decisions.history(name)
    champion = moves[-1].after if moves else None
    if champion == number and not version.withdrawn:
        raise RegistryError(
            f"{name}: version {number} is the champion already; there is nothing to do"
        )
    versions.require_whole(version)
    return Result(
        model, made(decisions.move(version, champion, why, withdraw=False), name).document()
    )
