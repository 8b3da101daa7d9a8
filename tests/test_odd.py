"""No traceback for anything outside Refit, damaged or odd.

Parts drawn at random end well, in quarantine, or in one line.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.checks import trial
from stages.commands import guess, pictures, problems
from stages.contract import plugins, store, tracked
from stages.contract import settings as params
from stages.contract.errors import RefitError, mendable
from stages.layouts import table
from stages.params.image import ImageModality
from stages.params.problems import Classification
from stages.params.text import TextModality
from stages.problems import classification
from stages.project import lineage, preflight
from tests.conftest import Project, rows

image = plugins.modality("image")
text = plugins.modality("text")

pytestmark = pytest.mark.slow
EXAMPLES = {  # 500 in all
    "text": 150,
    "picture": 110,
    "base": 60,
    "params": 80,
    "dvc": 60,
    "mlflow": 20,
    "git": 20,
}
STRANGE = st.sampled_from(["../../x", "a/b", "\0", "x" * 5000, "</script>", "$(touch PWNED)"])
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats())
SMALL = st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=20),
    st.lists(NUMBERS, max_size=3),
    SMALL,
    STRANGE,
)
ADDRESSES = [
    "x",
    "sqlite:///no/such/folder/m.db",
    "sqlite:///data",
    "nosuch://a",
    "http://",
    "mysql://h/x",
    "file:x",
    "http://[::1",
]
LARGE = ImageModality("image", (1, 65_535), 10**8, (1, 65_535), 8, 8, ("as_is",))


def drawn(kind: str) -> Any:
    """Return the settings of a kind of parts."""
    return settings(
        max_examples=EXAMPLES[kind],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return bytes of which some are cut, changed, inserted or repeated."""
    found = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, max(len(found) - 1, 0))), draw(st.integers(1, 30))
        match draw(st.sampled_from(["cut", "change", "put in", "twice", "take out", "nothing"])):
            case "cut":
                del found[at:]
            case "change":
                found[at : at + size] = draw(st.binary(min_size=size, max_size=size))
            case "put in":
                found[at:at] = draw(
                    st.binary(max_size=size)
                    | st.sampled_from(
                        [b"\0", b"\xff\xfe", b'"', b"\r\n\r\n", b";", b"\t", "ﬃ\u200b".encode()]
                    )
                )
            case "twice":
                found[at:at] = found[at : at + size]
            case "take out":
                del found[at : at + size]
            case _:
                pass
    return bytes(found)


def ends_well(work: Any) -> None:
    """Do the work: if it raises, the error must be one line for a user."""
    try:
        work()
    except (RefitError, OSError) as error:
        line = mendable(error)
        assert line is not None, error
        assert "\n" not in line


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, finished: Project) -> Iterator[Path]:
    """A project's folder, which is the current one."""
    project = finished.copy(tmp_path_factory.mktemp("odd") / "project")
    with chdir(project.root):
        yield project.root


def tables(folder: Path) -> dict[str, bytes]:
    """Return the same rows as files of each kind."""
    frame = pd.DataFrame([of | {"meta": i} for i, of in enumerate(rows(30))])
    found = {}
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz"):
        path = folder / name
        if name.endswith(".parquet"):
            frame.to_parquet(path)
        elif name.endswith(".jsonl"):
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_csv(path, index=False, sep="\t" if name == "t.tsv" else ",")
        found[name] = path.read_bytes()
        path.unlink()
    return found


def look_at_table(folder: Path) -> None:
    layout = guess.layout(folder, [Path(path.name) for path in folder.iterdir()], None, None)
    encoding = guess.encoding(folder, layout, [])
    guess.of_pictures(folder, layout)
    found = table.read(folder, layout, encoding, text)  # pyright: ignore[reportArgumentType]
    good = found[found["code"].isna()]
    looked = text.reading.look(good["x"], TextModality("text", (1, 1000), (1, 1000), 16))
    text.reading.alike(looked[looked["code"].isna()])
    problems.separated(good["y"])
    classification.read(good["y"], Classification("classification", None))


@drawn("text")
@given(st.data())
def test_a_damaged_table(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("table")
    whole = tables(folder)
    name = data.draw(st.sampled_from(sorted(whole)))
    (folder / name).write_bytes(data.draw(damaged(whole[name]) | st.binary(max_size=200)))
    ends_well(lambda: look_at_table(folder))


@drawn("picture")
@given(st.data())
def test_a_damaged_picture(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("picture") / "p"
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    mode = data.draw(st.sampled_from(["RGB", "L"]))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)).convert(
        mode
    ).save(path, kind)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    ends_well(lambda: image.reading.look(pd.Series([str(path)]), LARGE))
    pictures.is_picture(path)


@drawn("base")
@given(st.data())
def test_an_odd_base_model(parts: Path, data: st.DataObject) -> None:
    folder = parts / "data/raw/odd"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(parts / "data/raw/tiny_bert", folder)
    name = data.draw(
        st.sampled_from(
            ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        )
    )
    path = folder / name
    if name == "config.json" and data.draw(st.booleans()):
        document = json.loads(path.read_text())
        document[
            data.draw(
                st.sampled_from(
                    [
                        *document,
                        "auto_map",
                        "_attn_implementation",
                        "quantization_config",
                        "rope_scaling",
                    ]
                )
            )
        ] = data.draw(ODD)
        path.write_text(json.dumps(document))
    elif name != "model.safetensors" and data.draw(st.booleans()):
        path.unlink()
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    ends_well(
        lambda: trial.require(
            folder, text, classification, TextModality("text", (1, 1000), (1, 1000), 16)
        )
    )


@drawn("params")
@given(st.data())
def test_odd_params(parts: Path, data: st.DataObject) -> None:
    whole = (parts / "params.yaml").read_bytes()
    try:
        if data.draw(st.booleans()):
            (parts / "params.yaml").write_bytes(data.draw(damaged(whole)))
        else:
            document = params.read_yaml(parts / "params.yaml")
            at: Any = document
            while True:
                key = data.draw(
                    st.sampled_from([*at] if isinstance(at, dict) else list(range(len(at))))
                )
                if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
                    at = at[key]
                    continue
                at[key] = data.draw(ODD)
                break
            (parts / "params.yaml").write_text(json.dumps(document, allow_nan=True))

        def work() -> None:
            read = params.load()
            preflight.look(read, read.tasks)

        ends_well(work)
    finally:
        (parts / "params.yaml").write_bytes(whole)


@drawn("dvc")
@given(st.data())
def test_odd_files_of_dvc(parts: Path, data: st.DataObject) -> None:
    names = [".dvc/config.local", "dvc.lock", "data/raw/reviews.dvc"]
    kept = {name: (parts / name).read_bytes() for name in names}
    name = data.draw(st.sampled_from(names))
    try:
        (parts / name).write_bytes(data.draw(damaged(kept[name])))

        def work() -> None:
            tracked.real_store.cache_clear()
            tracked.require(Path("data/raw/reviews"))
            preflight.mend()
            lineage.read("tiny", "reviews", "tiny_bert")

        ends_well(work)
    finally:
        for name, content in kept.items():
            (parts / name).write_bytes(content)
        tracked.real_store.cache_clear()


@drawn("mlflow")
@given(st.data())
@example(None)
def test_an_odd_store(parts: Path, data: st.DataObject | None) -> None:
    kept = (parts / "mlflow.db").read_bytes()
    try:
        with pytest.MonkeyPatch.context() as patch:
            if data is None:
                (parts / "mlflow.db").write_bytes(b"no database at all")
            elif data.draw(st.booleans()):
                (parts / "mlflow.db").write_bytes(kept[: data.draw(st.integers(0, len(kept) - 1))])
            else:
                patch.setenv("MLFLOW_TRACKING_URI", data.draw(st.sampled_from(ADDRESSES)))
            ends_well(lambda: store.require_recordable("tiny"))
    finally:
        (parts / "mlflow.db").write_bytes(kept)


@drawn("git")
@given(code=st.integers(0, 255), said=st.binary(max_size=80), out=st.binary(max_size=80))
def test_an_odd_git(
    tmp_path_factory: pytest.TempPathFactory, code: int, said: bytes, out: bytes
) -> None:
    folder = tmp_path_factory.mktemp("git")
    (folder / "said").write_bytes(said)
    (folder / "out").write_bytes(out)
    git = folder / "git"
    git.write_text(f"#!/bin/sh\ncat {folder}/said >&2\ncat {folder}/out\nexit {code}\n")
    git.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        assert "\n" not in lineage.commit()


def test_the_parts_whole_end_right(parts: Path, tmp_path: Path) -> None:
    """What the tests above damage is whole at first."""
    for name, content in tables(tmp_path).items():
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(content)
        look_at_table(folder)
    trial.require(
        parts / "data/raw/tiny_bert",
        text,
        classification,
        TextModality("text", (1, 1000), (1, 1000), 16),
    )
    read = params.load()
    preflight.look(read, read.tasks)
    tracked.require(Path("data/raw/reviews"))
    lineage.read("tiny", "reviews", "tiny_bert")
    store.require_recordable("tiny")
