"""Take a version out of the registry: the base model of another task, or a teacher."""

import shutil
from pathlib import Path

from stages.contract import receipts, store
from stages.contract.errors import SourceError
from stages.params.sources import Registered


def fetch(origin: Registered, into: Path, temporary: Path) -> dict[str, str]:
    """Write a version's files, and its model.json as refit.json; return where they came from.

    Raises SourceError if the registry has it no longer, or with other bytes.
    """
    what, copied = f"{origin.model}@{origin.version}", temporary / "version"
    shutil.rmtree(copied, ignore_errors=True)
    copied.mkdir(parents=True)
    store.ping()
    with store.opened() as client:
        folder, lost = store.download(client, origin.model, origin.version, copied)
    if folder is None:
        raise SourceError(f"{what}: the registry has no files of it ({lost})")
    if receipts.digest(receipts.files(folder, ["model", "model.json"])) != origin.sha256:
        raise SourceError(
            f"{what}: has other bytes in the registry than sha256 says; see `refit lineage {what}`"
        )
    shutil.copytree(folder / "model", into, dirs_exist_ok=True)
    shutil.copyfile(folder / "model.json", into / store.DESCRIBED)
    shutil.rmtree(copied)
    return {"model": what, "sha256": origin.sha256}
