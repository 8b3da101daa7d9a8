"""Bring a registered version to data/raw, where another task can begin with it or be taught by it.

What an earlier task has learned is of use to a later one: as its base model, or as the teacher from
which a smaller model is distilled.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from stages.commands import blocks, transfer, versions
from stages.contract import receipts, settings
from stages.contract.errors import ModelError, RefitError
from stages.params.sources import AsIs, Registered, Source


@dataclass(frozen=True)
class Reused:
    """A version that is a source now, and the sha256 of the source's files."""

    name: str
    model: str
    version: int
    sha256: str


def reuse(name: str, model: str) -> Reused:
    """Write the source NAME of a version into params.yaml, and fetch it.

    Raises ParamsError for a name that is taken, RegistryError if there is no such version, and
    ModelError if it is damaged or has no weights that could learn.
    """
    folder = Path("data/raw", name)
    blocks.require_name(name, settings.load(), folder, fresh=True)
    version = versions.find(model)
    versions.require_whole(version)
    origin = Registered("registered", version.name, version.number, version.sha256)
    what = f"{version.name}@{version.number}"
    source = Source(origin, AsIs("as_is"), f"that of {what}, its base model and its data")
    try:
        transfer.fetch(name, source)
        if not list(folder.glob("model*.safetensors")):
            raise ModelError(f"{what}: has no weights that could learn; name a version of the form "
                             "plain")  # fmt: skip
    except RefitError:
        if name in settings.load().sources:
            blocks.remove([("sources", name)])
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sha256 = receipts.digest(receipts.files(folder, ["."]))
    return Reused(name, version.name, version.number, sha256)


def told(made: Reused) -> list[str]:
    """Return a result as lines for a person to read."""
    return [
        f"data/raw/{made.name}: {made.model}@{made.version}",
        f"as a base model: `refit add TASK DATA --base {made.name}`, or tasks.TASK.base",
        "as a teacher, in tasks.TASK.finetune: objective: {name: distill, "
        f"teacher: {made.name}, sha256: {made.sha256}, "
        "share: 0.5, temperature: 2.0, features: 0.0}",
    ]
