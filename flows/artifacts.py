"""Leave in Prefect what a stage found.

That is its numbers as a table, the decision in words, pictures, and a link to the MLflow run.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows import servers
from stages.contract import escape, location, receipts
from stages.contract.escape import one_line

NUMBERS = {  # the documents of a stage whose numbers are shown
    "validate": ("findings.json",),
    "split": ("leakage.json",),
    "finetune": ("metrics.json",),
    "evaluate": ("metrics.json",),
}
PICTURES = ("confusion.png", "preview/contact_sheet.png")
MAX_BYTES = 2_000_000  # of a picture, which Prefect keeps in its database
MAX_ROWS = 100


def leave(address: str) -> None:
    """Leave the artifacts of a stage that has just run."""
    stage, _, key = address.partition("@")
    folder, name = Path("data", stage, key), f"{stage}-{key}".replace("_", "-")
    documents = (*NUMBERS.get(stage, ()), "timing.json")
    rows = [
        {"what": what, "value": value}
        for document in documents
        for what, value in _numbers(folder / document)
    ]
    create_table_artifact(
        rows[:MAX_ROWS], key=name, description=f"{address}: {', '.join(documents)} of {folder}"
    )
    for path in (folder / picture for picture in PICTURES):
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            _show(path, f"{name}-{path.stem}".replace("_", "-"))
    if (folder / "decision.json").is_file():
        _leave_decision(address, folder, name)


def _show(picture: Path, key: str) -> None:
    data = base64.b64encode(picture.read_bytes()).decode()
    create_image_artifact(f"data:image/png;base64,{data}", key=key, description=str(picture))


def _leave_decision(address: str, folder: Path, name: str) -> None:
    decision = receipts.read_json(folder / "decision.json")
    create_markdown_artifact(
        (folder / "model_card.md").read_text("utf-8"),
        key=f"{name}-card",
        description=f"{address}: {decision['outcome']}",
    )
    if ui := mlflow_ui():
        create_link_artifact(
            f"{ui}/#/runs/{decision['candidate']['run_id']}?{servers.TRAINING}",
            "the run in MLflow",
            key=f"{name}-run",
            description=f"{address}: its run in MLflow",
        )


def mlflow_ui() -> str | None:
    """Return the address of MLflow's pages.

    They belong to the tracking server, or to the server that `make up` started here.
    """
    if address := location.server():
        return escape.address(address)
    return servers.running().get("mlflow", {}).get("url")


def _numbers(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the numbers of a JSON document, each with the keys that lead to it."""
    waiting = [(path.stem, receipts.read_json(path))] if path.is_file() else []
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, dict):
            waiting += [(f"{name}.{one_line(key, 60)}", child) for key, child in value.items()]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
