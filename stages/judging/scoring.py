"""Scores rows with a model folder that finetune wrote: the candidate's and the champion's in one and the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import device
from stages.contract import plugins, receipts
from stages.contract.errors import ModelError
from stages.contract.params import Compute

WINDOW = 16_384  # rows that are encoded at a time: what a tokenizer returns takes a hundred times the memory of a text


def predict(folder: Path, samples: pd.DataFrame, compute: Compute, sha256: str | None = None, progress: Callable[[int], None] | None = None) -> pd.DataFrame:
    """Return predicted and confidence for each sample (same index), from folder/model.json and folder/model.

    The model's own settings hold, not today's. Its bytes are verified first, against sha256 where the caller knows it
    (a registry's files can be written over); only safetensors are loaded and no code of the folder is run.
    progress is called after each batch with the number of its rows.
    """
    import torch

    on = device.set_up(compute)
    card = verified(folder, sha256)
    of_x, of_y = plugins.modality(card["modality"]["name"]), plugins.problem(card["problem"])
    model = of_y.load(folder / "model", card["modality"]["name"], card["labels"], new_head=False)[0].eval()
    model = model.to(on, memory_format=getattr(torch, compute.memory_format))
    processor = of_x.processor(folder / "model")
    modality, collate = plugins.settings(card["modality"]), of_x.collate(processor)

    logits = np.empty((len(samples), len(card["labels"])), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(samples), WINDOW):
            encoded = of_x.encode(samples.iloc[start : start + WINDOW], processor, modality)
            for batch, inputs in device.batches(encoded, of_x.lengths(encoded), collate, compute.batch_size):
                with device.arithmetic(compute):
                    seen = [model(**view).logits.float() for view in of_x.views(inputs, modality)]
                logits[start + batch] = torch.stack(seen).mean(dim=0).cpu().numpy()
                if progress:
                    progress(len(batch))
    return of_y.decode(logits, card["labels"]).set_index(samples.index)


def identity(folder: Path) -> str:
    """Return the sha256 by which a model is known: of its files, and of model.json, which says how to read them."""
    return receipts.digest(receipts.files(folder, ["model", "model.json"]))


def verified(folder: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return model.json; raises ModelError unless the bytes are those of sha256, or, without it, those model.json names."""
    card, right = {}, False
    try:
        card = receipts.read_json(folder / "model.json")
        right = receipts.digest(receipts.files(folder, ["model"])) == card["sha256"] if sha256 is None else identity(folder) == sha256
        plugins.settings(card["modality"])
        right = right and isinstance(card["task"], str) and isinstance(card["labels"], list)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        pass  # a file is gone, or model.json is none of finetune's: not those bytes either
    if not right:
        raise ModelError(f"{folder}: the model's bytes are not those that were registered or written; fetch or train it anew")
    return card
