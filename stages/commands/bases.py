"""Find the base model that a user names or the data chooses, and bring it."""

import json
import re
from pathlib import Path

from pydantic import TypeAdapter

from stages.commands import blocks, transfer
from stages.contract import settings
from stages.contract.errors import ParamsError, SourceError
from stages.contract.escape import extract
from stages.params.sources import Source
from stages.params.task import Params

KNOWN = Path(__file__).with_name("sources.yaml")


def known() -> dict[str, Source]:
    """Return the base models that can be named without being in params.yaml."""
    return TypeAdapter(dict[str, Source]).validate_json(json.dumps(settings.read_yaml(KNOWN)))


def find(base: str | None, params: Params, name: str) -> tuple[str, Source | Path | None]:
    """Return the key of the base model, and what has to be brought for it, if anything.

    Nothing has to be brought if the source is there. If no base was named, the key is empty,
    because the data decides which one it is. name is that of the new task.
    """
    if not base or _is_source(base, params):
        return base or "", None
    hub, folder, source = transfer.HUB.fullmatch(base), Path(base), known().get(base)
    if not (source or hub or (folder / "config.json").is_file()):
        raise _unknown(base, params)
    of = (hub[1] if hub else folder.resolve().name).rpartition("/")[2]
    key = re.sub("[^a-z0-9_]+", "_", of.lower())
    if key == name:
        raise ParamsError(
            f"{name}: is the name of the base model's source too; choose another name"
        )
    blocks.require_name(key, params, Path("data/raw", key), fresh=True)
    return key, source or (transfer.hub("model", hub) if hub else folder)


def bring(base: str, brought: Source | Path | None, params: Params) -> Path:
    """Write the source of a base model and fetch it, and return the folder of the model.

    A source that the data chose is written, and `dvc repro` will fetch it.
    """
    if brought is None and not _is_source(base, params):
        if base not in known():
            raise _unknown(base, params)
        blocks.write("sources", base, known()[base])
    if isinstance(brought, Source):
        transfer.fetch(base, brought)
    return brought if isinstance(brought, Path) else Path("data/raw", base)


def _is_source(base: str, params: Params) -> bool:
    available = re.fullmatch("[a-z0-9_]+", base) and (
        Path("data/raw", base, "config.json").is_file() or Path("data/raw", f"{base}.dvc").exists()
    )
    return base in params.sources or bool(available)


def _unknown(base: str, params: Params) -> SourceError:
    have = ", ".join(sorted({*params.sources, *known()}))
    return SourceError(
        f"--base {extract(base)}: no source (have: {have}), no folder with a config.json, and "
        "not hub:OWNER/NAME"
    )
