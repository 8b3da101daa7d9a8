"""Describe a registered model by the file MLmodel, so that MLflow's tools open it.

The flavour python_function predicts as Refit does, by the module stages.champion, which must be
importable; transformers is a pipeline over the model's folder, if that is a plain one. Neither has
a pickle or code in the artifact. Refit itself reads none of these files.
"""

import json
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import plugins
from stages.models import adapters
from stages.models.saved import Saved

LOADER = "stages.champion"
# What an environment needs beside Refit itself.
NEEDED = ("mlflow", "numpy", "pandas", "safetensors", "scikit-learn", "torch", "transformers")
# Class of transformers -> the pipeline over it, and the part that turns samples into its inputs.
PIPELINES = {
    "AutoModelForSequenceClassification": ("text-classification", "tokenizer"),
    "AutoModelForImageClassification": ("image-classification", "image_processor"),
    "AutoModelForAudioClassification": ("audio-classification", "feature_extractor"),
}
AUTO = {
    "tokenizer": "AutoTokenizer",
    "image_processor": "AutoImageProcessor",
    "feature_extractor": "AutoFeatureExtractor",
}
CONFIGURATION = "config.json"
WEIGHTS = (".safetensors", ".onnx")


def write(folder: Path, described: Saved, sample: str, into: Path, ids: tuple[str, str]) -> None:
    """Write MLmodel, and what it names, into a new folder.

    folder has the model; sample is x of one row, which becomes the input example; ids are
    those of the run and of the logged model.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    files = plugins.modality(described.modality["name"]).reading.FILES
    example: str | bytes = Path("data", sample).read_bytes() if files else sample
    run_id, model_id = ids
    made = Model(run_id=run_id, model_id=model_id)
    if transformers := _transformers(folder / "model", described):
        made.add_flavor("transformers", **transformers)
    quiet = logging.getLogger("mlflow")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # else it tells of each step
    try:
        pyfunc.save_model(
            into,
            loader_module=LOADER,
            mlflow_model=made,
            signature=_signature(described, files),
            input_example=pd.DataFrame([example]),
            pip_requirements=[f"{name}=={version(name)}" for name in NEEDED],
        )
    finally:
        quiet.setLevel(level)
    for part in transformers.get("components", []):
        to = into / "components" / part
        ignore = shutil.ignore_patterns(*(f"*{suffix}" for suffix in WEIGHTS))
        shutil.copytree(folder / "model", to, ignore=ignore)


def _transformers(model: Path, described: Saved) -> dict[str, Any]:
    """Return the flavour transformers; empty if no pipeline over the folder predicts the same.

    A pipeline sees a sample once, and Refit may take the mean over several views of it.
    """
    head = plugins.problem(described.problem).HEADS.get(described.modality["name"], "")
    opens = (model / CONFIGURATION).is_file() and list(model.glob("model*.safetensors"))
    if described.baseline or not opens or adapters.is_in(model) or head not in PIPELINES:
        return {}
    if plugins.settings(described.modality).views != ("as_is",):
        return {}
    task, part = PIPELINES[head]
    configuration = json.loads((model / CONFIGURATION).read_text("utf-8"))
    return {
        "transformers_version": version("transformers"),
        "task": task,
        "pipeline_model_type": configuration["architectures"][0],
        "source_model_name": described.base.source,
        "model_binary": model.name,
        "components": [part],
        f"{part}_type": AUTO[part],
    }


def _signature(described: Saved, files: bool) -> Any:
    """Return what a prediction takes and gives; a file travels as its bytes."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    predicted = "string" if described.labels else "double"
    given = {"predicted": predicted, "confidence": "double", "code": "string", "reason": "string"}
    taken: Any = [ColSpec("binary" if files else "string")]  # without a name: a list will do
    outputs: Any = [
        ColSpec(kind, name, required=name == "predicted") for name, kind in given.items()
    ]
    params = ParamSchema([ParamSpec("probabilities", "boolean", False)])
    return ModelSignature(Schema(taken), Schema(outputs), params)
