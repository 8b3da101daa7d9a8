"""The forms in which a model leaves: each predicts as the trained model does, or says why not."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.contract import manifest, plugins
from stages.contract.errors import ModelError
from stages.contract.protocols import Finished
from stages.methods.export import int8, onnx, onnx_int8, pruned
from stages.models import adapters, graphs, scoring
from stages.params import export as types
from stages.params.compute import Compute
from stages.problems import classification, regression
from tests.conftest import Project
from tests.test_combinations import resnet, stack

FORMS: dict[str, tuple[Any, float]] = {  # and how far a probability may be from the plain model's
    "pruned weights": (types.Pruned("pruned", "weights", 0.01), 0.05),
    "pruned neurons": (types.Pruned("pruned", "neurons", 0.02), 0.05),
    "int8": (types.Int8("int8"), 0.05),
    "onnx": (types.Onnx("onnx", 20), 1e-3),
    "onnx_int8 dynamic": (types.OnnxInt8("onnx_int8", 20, "dynamic"), 0.1),
    "onnx_int8 static": (types.OnnxInt8("onnx_int8", 20, "static"), 0.2),
}
COMPUTE = Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=7)


def exported(done: Project, to: Path, form: Any) -> Project:
    project = done.copy(to)
    project.params(lambda p: p["tasks"]["tiny"].update(export=asdict(form)))
    project.stage("export")
    return project


def probabilities(folder: Path, samples: pd.DataFrame) -> Any:
    scorer = scoring.load(folder, COMPUTE)
    return classification.probabilities(scoring.score(scorer, samples))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_form_predicts_as_the_trained_model_and_is_judged_as_what_it_is(
    done: Project, tmp_path: Path, name: str
) -> None:
    form, close = FORMS[name]
    project = exported(done, tmp_path / "project", form)
    folder, test = project.root / "data/export/tiny", done.root / "data/split/tiny/test.parquet"
    samples = manifest.read(test)
    ours, theirs = (probabilities(of, samples) for of in (folder, done.root / "data/export/tiny"))
    assert np.abs(ours - theirs).max() <= close
    assert close < 1e-2 or not np.array_equal(ours, theirs), "it is another form"
    assert scoring.verified(folder).form == form.name
    assert not [path for path in (folder / "model").rglob("*") if path.suffix in (".bin", ".pt")]
    if name == "onnx":
        is_judged_and_predicts(project, samples)
    weights = (".onnx", ".safetensors")
    file = next(path for path in (folder / "model").iterdir() if path.suffix in weights)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ModelError, match="bytes are not those"):
        scoring.load(folder, COMPUTE)


def is_judged_and_predicts(project: Project, samples: pd.DataFrame) -> None:
    """Evaluate, register and predict with the form that was exported."""
    folder = project.root / "data/export/tiny"
    project.through("evaluate", "register")
    decided = json.loads((project.root / "data/register/tiny/decision.json").read_text())
    said = project.run("refit", "predict", f"tiny@{decided['candidate']['version']}",
                       "--sample", samples["x"].iloc[0]).stdout  # fmt: skip
    described = json.loads((folder / "model.json").read_text())
    assert json.loads(said)["predicted"] in described["labels"]


def pictured(tmp_path: Path, labels: list[str], of_y: Any = classification) -> Finished:
    """Return a tiny ResNet that finetune could have left, and batches of pictures of noise."""
    import torch

    model, _ = resnet()
    model.config.problem_type = of_y.KIND
    model.save_pretrained(tmp_path / "trained")
    noise = torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    rows = [{"pixel_values": one} for one in noise]
    batches = [stack(rows[:1]), stack(rows[1:4]), stack(rows)]
    return Finished(tmp_path / "trained", of_y, "image", labels, lambda _: batches)


@pytest.mark.slow
def test_pictures_leave_as_graphs_with_static_scales_for_convolutions(tmp_path: Path) -> None:
    finished = pictured(tmp_path, ["a", "b", "c"])
    onnx.write(finished, tmp_path / "graph", types.Onnx("onnx", 9))
    onnx_int8.write(finished, tmp_path / "whole", types.OnnxInt8("onnx_int8", 9, "static"))
    graph, whole = (graphs.opened(tmp_path / of, 1) for of in ("graph", "whole"))
    for batch in finished.batches(9):
        ours, theirs = (of(**batch).logits.softmax(1) for of in (graph, whole))
        assert (ours - theirs).abs().max() < 0.1
    names = {of.name for of in (tmp_path / "whole").iterdir()}
    assert names == {"config.json", "model.onnx"}


@pytest.mark.slow
def test_a_graph_that_predicts_something_else_is_no_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = pictured(tmp_path, ["a", "b", "c"])
    # what is traced is not what is compared: another model's weights
    trace = graphs._trace

    def of_another(model: Any, *given: Any) -> None:
        import copy

        import torch

        other = copy.deepcopy(model)
        with torch.no_grad():
            other.classifier[1].bias += torch.tensor([1.0, 0.0, 0.0])
        trace(other, *given)

    monkeypatch.setattr(graphs, "_trace", of_another)
    with pytest.raises(ModelError, match="ONNX Runtime differs from torch by 0.*at most 0.001"):
        onnx.write(finished, tmp_path / "graph", types.Onnx("onnx", 9))


def test_a_form_that_a_model_cannot_have_says_why(tmp_path: Path) -> None:
    finished = pictured(tmp_path, ["a", "b", "c"])
    with pytest.raises(ModelError, match="linear layers have .*say onnx_int8 with scales: static"):
        int8.write(finished, tmp_path / "int8", types.Int8("int8"))
    with pytest.raises(ModelError, match="no feed-forward layers of one width"):
        pruned.write(finished, tmp_path / "narrow", types.Pruned("pruned", "neurons", 0.5))
    number = pictured(tmp_path / "number", [], regression)
    assert number.labels == []
    (tmp_path / "trained/model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="ONNX Runtime cannot open it"):
        graphs.opened(tmp_path / "trained", 1)


@pytest.mark.slow
def test_made_up_tokens_have_one_form(done: Project, tmp_path: Path) -> None:
    project = done.copy(tmp_path / "project")
    prompt = {"name": "prompt", "tokens": 4}
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(tune=prompt))
    project.params(lambda p: p["tasks"]["tiny"].update(export={"name": "int8"}))
    project.stage("finetune")
    assert adapters.is_in(project.root / "data/finetune/tiny/model")
    assert "made-up tokens are merged into no weights" in project.stage("export", ok=False).stderr
    project.params(lambda p: p["tasks"]["tiny"].update(export={"name": "plain"}))
    project.stage("export")
    folder = project.root / "data/export/tiny"
    samples = manifest.read(project.root / "data/split/tiny/test.parquet")
    assert np.isfinite(probabilities(folder, samples)).all()
    facts = folder / "model/adapter/adapter.json"
    facts.write_text(facts.read_text().replace('"tokens": 4', '"tokens": 5'))
    scorer = json.loads((folder / "model.json").read_text())
    of_y = plugins.problem(scorer["problem"])
    with pytest.raises(ModelError, match="are no made-up tokens of this model"):
        plugins.export("plain").load(of_y, folder / "model", "text", scorer["labels"], COMPUTE)
