"""A registered version is opened by MLflow's means, by transformers, and from Python.

All of them say the same, and Refit's own loader stays the one that verifies.
"""

import json
import os
import pydoc
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest

from stages.champion import load
from stages.contract.errors import DataError, ModelError, RegistryError
from stages.registry import flavour, registered, serving
from tests.conftest import Project, rows

TEXTS = [row["text"] for row in rows(30, seed=9)]
CLOSE = 1e-5  # of a probability


@pytest.fixture(autouse=True)
def here(done: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(done.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{done.root}/mlflow.db")
    return done


def probabilities(found: pd.DataFrame) -> "np.ndarray[Any, Any]":
    names = [name for name in found if str(name).startswith("probability ")]
    assert names == ["probability ask", "probability blame", "probability praise"]
    return found[names].to_numpy(dtype=float)


def of_pipeline(pipeline: Any) -> "np.ndarray[Any, Any]":
    found = [{said["label"]: said["score"] for said in row} for row in pipeline(TEXTS)]
    return np.array([[row[label] for label in sorted(row)] for row in found])


def test_six_ways_to_open_a_champion_agree(here: Project) -> None:
    import mlflow
    import torch
    import transformers

    ours = probabilities(load("tiny").predict(TEXTS, probabilities=True))
    folder = here.root / "data/export/tiny/model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
        logits = model(**inputs).logits
    uri, table = "models:/tiny@champion", pd.DataFrame({"text": TEXTS})
    asked = mlflow.pyfunc.load_model(uri).predict(table, params={"probabilities": True})
    pipeline = transformers.pipeline("text-classification", model=str(folder), top_k=None)
    ways = {
        "pipeline": of_pipeline(pipeline),
        "auto": torch.softmax(logits, 1).numpy(),
        "mlflow.transformers": of_pipeline(mlflow.transformers.load_model(uri, top_k=None)),
        "mlflow.pyfunc": probabilities(asked),
    }
    assert {name: np.abs(way - ours).max() < CLOSE for name, way in ways.items()} == dict.fromkeys(
        ways, True
    )


def test_a_version_states_what_it_takes_and_gives_and_has_no_pickle() -> None:
    import mlflow

    model = mlflow.pyfunc.load_model("models:/tiny@champion")
    signature = model.metadata.signature
    assert [(str(of.type), of.name) for of in signature.inputs] == [("DataType.string", None)]
    assert [of.name for of in signature.outputs] == ["predicted", "confidence", "code", "reason"]
    found = model.predict(["", TEXTS[0]])
    assert found["code"].tolist() == ["too_short", None]
    assert found["predicted"][0] is None and found["predicted"][1] in load("tiny").labels
    example = model.input_example
    assert len(example) == 1 and model.predict(example)["predicted"][0] in load("tiny").labels
    held = [path for path in Path("mlruns").rglob("artifacts/**/*") if path.is_file()]
    assert not [path for path in held if path.suffix in (".pkl", ".pt", ".bin", ".pth", ".py")]
    assert [path.name for path in held if path.suffix == ".safetensors"] == ["model.safetensors"]


@pytest.mark.slow
def test_mlflow_serves_a_version_from_the_project_s_folder(here: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", "models:/tiny@champion", "-p", str(port)]
    server = subprocess.Popen(
        [*command, "--env-manager", "local"], cwd=here.root, env=os.environ, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        body = json.dumps({"inputs": TEXTS, "params": {"probabilities": True}}).encode()
        answer = json.loads(ask(f"http://127.0.0.1:{port}/invocations", body, server))
    finally:
        os.killpg(server.pid, 9)
        server.wait()
    served = pd.DataFrame(answer["predictions"])
    ours = load("tiny").predict(TEXTS, probabilities=True)
    assert np.abs(probabilities(served) - probabilities(ours)).max() < CLOSE
    assert served["predicted"].tolist() == ours["predicted"].tolist()


def ask(address: str, body: bytes, server: "subprocess.Popen[bytes]") -> bytes:
    """Return the answer of a server, once it listens."""
    for _ in range(240):
        assert server.poll() is None
        try:
            with urlopen(Request(address, body, {"Content-Type": "application/json"})) as answer:
                return answer.read()
        except URLError:
            time.sleep(0.5)
    raise AssertionError("the server never answered")


def test_pipelines_are_transformers_own() -> None:
    import transformers
    from transformers.pipelines import SUPPORTED_TASKS

    for head, (task, part) in flavour.PIPELINES.items():
        pipeline: Any = SUPPORTED_TASKS[task]
        assert head in str(pipeline["pt"]) and hasattr(transformers, head)
        of: Any = pydoc.locate(pipeline["impl"])
        assert getattr(of, f"_load_{part}") and hasattr(transformers, flavour.AUTO[part])


def test_threads_share_a_predictor_and_each_gets_its_own_answers() -> None:
    predictor = load("tiny@1")
    alone = predictor.predict(TEXTS)["predicted"].tolist()
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda i: predictor.predict([TEXTS[i % 30]]), range(60)))
    assert [one["predicted"][0] for one in asked] == [alone[i % 30] for i in range(60)]


def test_a_model_that_is_not_there_or_was_changed_is_refused(here: Project) -> None:
    for name, error, fact in (
        ("nobody", RegistryError, "no model of this name"),
        ("tiny@9", RegistryError, "no version 9"),
        ("no/where", ModelError, "is neither TASK"),
    ):
        with pytest.raises(error, match=fact):
            load(name)
    predictor = load("tiny")
    with pytest.raises(DataError, match="predicts for texts; give each as a str"):
        predictor.predict([b"bytes"])
    with pytest.raises(DataError, match="predicts for a list of samples"):
        predictor.predict("one text")
    weights = next(Path("mlruns").rglob("artifacts/model/model.safetensors"))
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(ModelError, match="not those that were registered"):
            load("tiny")
        import mlflow

        with pytest.raises(ModelError, match="not those that were registered"):
            mlflow.pyfunc.load_model("models:/tiny@champion")
    finally:
        weights.write_bytes(kept)


def test_a_text_with_unfit_characters_is_a_bad_row_and_bad_rows_have_all_columns() -> None:
    found = load("tiny").predict(["a \0 b", "a \ud800 b", ""], probabilities=True)
    assert found["code"].tolist() == ["nul_character", "not_utf8", "too_short"]
    assert np.isnan(probabilities(found)).all() and found["predicted"].isna().all()
    assert list(load("tiny").predict([], probabilities=True)) == list(found)


def test_without_params_it_computes_alike_everywhere(
    here: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predictor = load(here.root / "data/export/tiny")
    assert predictor.predict(TEXTS[:3])["predicted"].notna().all()
    assert serving.portable().dtype == "float32"


def test_a_version_and_its_run_are_called_by_what_they_are() -> None:
    import mlflow

    client, version = mlflow.MlflowClient(), registered.champion("tiny")
    assert version
    run, model = client.get_run(version.run_id), client.get_registered_model("tiny")
    assert " full macro_f1 " in run.info.run_name
    assert model.description == "text classification, learned from data/raw/reviews with tiny_bert"
    logged = client.search_logged_models([run.info.experiment_id])
    assert [of.name for of in logged] == ["tiny"]
