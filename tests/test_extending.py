"""docs/extending.md, done as it says: files written, diffs applied, YAML merged, the DAG run.

All five examples run together.
"""

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest
from pydantic import Field
from ruamel.yaml import YAML

from stages.contract import draws, plugins
from stages.contract.modality import Modality
from stages.contract.receipts import sha256
from stages.models import loading
from stages.params.augment import Augment
from stages.params.finetune import Local
from stages.params.task import Task
from stages.params.text import RandomWord, TextModality
from tests.conftest import COPIED, ROOT, Project, block, flows, make_project, rows, write_csv
from tests.test_architecture import KINDS, PARTS
from tests.test_hub import Server
from tests.test_staleness import stale

pytestmark = pytest.mark.slow
GRADES = {"blame": "poor", "ask": "fair", "praise": "good"}
SAME = (
    "<p>the <b>meal</b> was good</p>",
    "<script>if (1 < 2) {}</script><div class='x'>The meal was<br>good</div>",
)
EMPTY = "<html><head><style>p { color: red }</style></head></html>"


@dataclass
class Example:
    """A section of the page: new files, diffs of old ones, and lines of params.yaml."""

    files: dict[str, str] = field(default_factory=dict[str, str])
    diff: str = ""
    yaml: dict[str, Any] = field(default_factory=dict[str, Any])

    def apply(self, root: Path) -> None:
        """Do to a checkout what a reader would do."""
        for name, code in self.files.items():
            assert not (root / name).exists(), f"{name} is there already"
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(code)
        # In a folder of another repository git would skip every file.
        alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)}
        done = subprocess.run(
            ["git", "apply", "-"],
            input=self.diff,
            cwd=root,
            env=alone,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (
            f"docs/extending.md: a diff does not fit the code any more: {done.stderr}"
        )


def read_page() -> dict[str, Example]:
    """Return heading -> example; every block of the page belongs to one."""
    found: dict[str, Example] = {}
    for section in (ROOT / "docs/extending.md").read_text().split("\n## ")[1:]:
        example = found[section.partition("\n")[0]] = Example()
        for above, kind, code in re.findall(
            r"([^\n]*)\n\n```(\w*)\n(.*?)^```$", section, re.M | re.S
        ):
            if kind == "python":
                example.files[above.removesuffix(":")] = code
            elif kind == "diff":
                example.diff += code
            else:
                assert kind == "yaml", f"{kind}: no block that this test can run"
                example.yaml = merge(example.yaml, YAML(typ="safe").load(code))
    return found


def merge(old: Any, new: Any) -> Any:
    """Return old with new in it: mappings are joined, anything else is replaced.

    A choice, which has a name, is replaced too.
    """
    if not isinstance(old, dict) or not isinstance(new, dict) or "name" in new:
        return new
    return old | {key: merge(old.get(key), value) for key, value in new.items()}


EXAMPLES = read_page()
PLUG_INS = {  # the file of each; of a modality, which is a folder, the file that reads
    Path(path).parent.name if "modalities" in path else Path(path).stem: path
    for example in EXAMPLES.values()
    for path in sorted(example.files, key=lambda path: path.endswith("reading.py"))
}


def checkout(root: Path, *more: str) -> Path:
    """Copy the code of this checkout, as far as the page mentions it."""
    for name in (*COPIED, "params.yaml", *more):
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns("__pycache__")
        ) if source.is_dir() else shutil.copy(source, target)
    return root


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve grades.csv: pages of HTML.

    Two have the same words, one has none, and one has a grade that nobody declared.
    """
    folder = tmp_path_factory.mktemp("served")
    table = [
        {"text": f"<p id='{i}'>{row['text']}</p>", "grade": GRADES[row["label"]]}
        for i, row in enumerate(rows())
    ]
    table += [{"text": page, "grade": "good"} for page in (*SAME, EMPTY)] + [
        {"text": "<p>nobody graded this so</p>", "grade": "odd"}
    ]
    write_csv(folder / "grades.csv", table)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            if self.path in ("/busy.csv", "/broken.csv"):
                self.send_response(503 if self.path == "/busy.csv" else 200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"text,grade\n")
            else:
                super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/grades.csv"
        server.shutdown()


def served(address: str) -> bytes:
    import urllib.request

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address) as answer:
        return answer.read()


def origin(address: str, folder: Path) -> dict[str, Any]:
    """Return the source of the page, with this machine's address."""
    example = next(e for e in EXAMPLES.values() if "sources" in e.yaml)
    copy = folder / "copy.csv"
    copy.write_bytes(served(address))
    return example.yaml["sources"]["grades"]["origin"] | {
        "address": address,
        "sha256": sha256(copy),
    }


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, address: str) -> Project:
    """A project with all that the page adds in one task, in which every stage has run once.

    dvc.yaml is this checkout's.
    """
    task = block()
    task["finetune"]["epochs"] = 1
    project = make_project(
        tmp_path_factory.mktemp("extended") / "project", tiny_base, {"reviews": task}
    )

    def use(document: Any) -> None:
        for example in EXAMPLES.values():
            example.apply(project.root)
            document.update(merge(dict(document), example.yaml))
        document["sources"]["grades"]["origin"] = origin(address, tmp_path_factory.mktemp("copy"))
        document["tasks"]["reviews"]["register"]["gates"].append(
            {"name": "least_recall", "least": 0.0}
        )

    project.params(use)
    return project.through("fetch", key="grades", NO_PROXY="*").through(key="reviews")


def read_json(project: Project, name: str) -> Any:
    return json.loads((project.root / "data" / name).read_text())


def html(project: Project) -> Modality:
    """Return the project's modality, whose modules need nothing but this checkout."""
    package = importlib.import_module("stages.modalities")
    if (folder := str(project.root / "stages/modalities")) not in package.__path__:
        package.__path__.append(folder)
    return plugins.modality("html")


def module(project: Project, name: str) -> Any:
    """Import a plug-in of the project that needs nothing but this checkout."""
    spec = importlib.util.spec_from_file_location(name, project.root / PLUG_INS[name])
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_has_an_example_of_each_kind() -> None:
    assert [heading.split(":")[0] for heading in EXAMPLES] == [
        "A method",
        "A source",
        "A gate",
        "A problem",
        "A modality",
    ]
    assert [str(Path(path).parent) for path in PLUG_INS.values()] == [
        "stages/methods/tune",
        "stages/sources",
        "stages/problems",
        "stages/modalities/html",
    ]
    assert all(example.diff and example.yaml for example in EXAMPLES.values())
    assert (ROOT / "docs/extending.md").read_text().count("```") == 2 * sum(
        len(e.files) + 2 for e in EXAMPLES.values()
    )


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_fits_this_checkout_without_the_others(heading: str, tmp_path: Path) -> None:
    example, root = EXAMPLES[heading], checkout(tmp_path / "project")
    for name in ("tiny_bert", "reviews"):
        (root / "data/raw" / name).mkdir(parents=True)
    yaml = YAML()
    yaml.dump(
        merge({"flows": flows(), "sources": {}, "tasks": {"reviews": block()}}, example.yaml),
        root / "params.yaml",
    )
    imports = "".join(
        f"import {path.removesuffix('.py').replace('/', '.')}; " for path in example.files
    )
    load = [sys.executable, "-c", f"{imports}from stages.contract import settings; settings.load()"]
    before = subprocess.run(load, cwd=root, capture_output=True, text=True, check=False)
    assert before.returncode, "the example works without being applied"
    example.apply(root)
    after = subprocess.run(load, cwd=root, capture_output=True, text=True, check=False)
    assert after.returncode == 0, after.stderr


def test_all_examples_together_pass_what_this_checkout_passes(tmp_path: Path) -> None:
    """ruff, and the tests that check plug-ins against their Protocols, types and deps.

    pyright takes half a minute, which `make check` spends.
    """
    project = Project(checkout(tmp_path / "project", "tests", "README.md"))
    for example in EXAMPLES.values():
        example.apply(project.root)
    project.run("ruff", "check", "--no-cache", "stages")
    project.run("ruff", "format", "--no-cache", "--check", "stages")
    modules = [
        path.removeprefix("stages/").removesuffix(".py").replace("/", ".")
        for example in EXAMPLES.values()
        for path in example.files
    ]
    protocols = [
        (
            PARTS.get(module.rpartition(".")[2])
            or KINDS[module.rpartition(".")[0].replace(".", "/")][3]
        ).__name__
        for module in modules
    ]
    tests = [
        *(
            f"test_a_plug_in_offers_what_its_protocol_says[{module}-{kind}]"
            for module, kind in zip(modules, protocols, strict=True)
        ),
        "test_a_modality_is_a_folder_of_its_name",
        "test_plug_in_files_are_the_names_in_the_params_types",
        "test_the_code_deps_of_a_stage_cover_what_it_imports",
        "test_imports_go_one_way",
        "test_contract_and_stories_import_no_heavy_library_when_they_start",
    ]
    project.run(
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *(f"tests/test_architecture.py::{test}" for test in tests),
    )
    keys = project.run(sys.executable, "-m", "stages.commands.reference").stdout
    assert (
        all(f"name: {name}" in keys for name in ("norm_only", "url", "least_recall", "ordinal"))
        and "html" in keys
    )


# ---- its examples, run ---------------------------------------------------------------------------


def test_norm_only_moves_norms_and_the_head_and_nothing_else(extended: Project) -> None:
    import transformers
    from safetensors.numpy import load_file

    before = load_file(extended.root / "data/raw/tiny_bert/model.safetensors")
    after = load_file(extended.root / "data/finetune/reviews/model/model.safetensors")
    known = {name: tensor for name, tensor in after.items() if name.removeprefix("bert.") in before}
    assert after.keys() - known.keys() == {"classifier.weight", "classifier.bias"}
    moved = {
        name
        for name, tensor in known.items()
        if not np.array_equal(tensor, before[name.removeprefix("bert.")])
    }
    norms = {name for name in known if "LayerNorm" in name}
    assert moved == norms and len(norms) > 5
    # As finetune does before it loads, so the new head is the same.
    transformers.set_seed(block()["finetune"]["seed"])
    start, _ = loading.load(
        plugins.problem("classification"),
        extended.root / "data/raw/tiny_bert",
        "text",
        ["1", "2", "3"],
        new_head=True,
    )
    assert (
        np.abs(after["classifier.weight"] - start.classifier.weight.detach().numpy()).max() > 1e-4
    )


def test_url_brings_the_file_that_was_pinned(extended: Project, address: str) -> None:
    assert (extended.root / "data/raw/grades/grades.csv").read_bytes() == served(address)
    source = read_json(extended, "raw/grades/source.json")
    assert source["origin"] == {"address": address, "sha256": source["files"]["grades.csv"]}


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "another file": ({"sha256": "0" * 64}, 2, f"not {'0' * 64}"),
    "a large file": ({"max_bytes": 10}, 2, "more than 10 bytes"),
    "no such file": ({"address": "missing.csv"}, 2, "the server answers 404"),
    "a busy server": ({"address": "busy.csv"}, 4, "the server answers 503"),
    "a broken connection": ({"address": "broken.csv"}, 4, "broke off 989 bytes before its end"),
    "too late": ({"seconds": 1e-9}, 4, "not done within"),
    "no server": ({"address": "http://127.0.0.1:9/grades.csv"}, 4, "Connection refused"),
    "no address": ({"address": "file:///etc/passwd"}, 2, "sources.grades.origin.address"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_url_refuses_in_one_line_and_leaves_nothing(
    case: str, extended: Project, address: str, tmp_path: Path
) -> None:
    change, code, fact = REFUSED[case]
    if "://" not in change.get("address", "://"):
        change = {"address": address.replace("grades.csv", change["address"])}
    source = {
        "origin": origin(address, tmp_path) | change,
        "format": {"name": "as_is"},
        "licence": "CC0-1.0",
    }
    YAML().dump(
        {"flows": flows(), "sources": {"grades": source}, "tasks": {}}, tmp_path / "params.yaml"
    )
    done = Project(tmp_path).stage(
        "fetch", "grades", ok=False, PYTHONPATH=str(extended.root), NO_PROXY="*"
    )
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert fact in done.stderr
    assert not (tmp_path / "data/raw").exists()


def test_least_recall_answers_with_the_recall_of_every_label(extended: Project) -> None:
    from sklearn.metrics import recall_score

    rows, labels = (
        pd.read_parquet(extended.root / "data/evaluate/reviews/predictions.parquet"),
        ["1", "2", "3"],
    )
    recall = recall_score(rows["y"], rows["candidate"], labels=labels, average=None)
    first, second = (
        v
        for v in read_json(extended, "register/reviews/decision.json")["verdicts"]
        if v["gate"] == "least_recall"
    )
    assert (
        first["facts"]["recall"]
        == second["facts"]["recall"]
        == pytest.approx(dict(zip(labels, recall, strict=True)))
    )
    assert (first["facts"]["least"], first["outcome"]) == (
        0.7,
        "promote" if min(recall) >= 0.7 else "reject",
    )
    assert (second["facts"]["least"], second["outcome"]) == (0.0, "promote")


def test_least_recall_rejects_where_one_label_is_missed_or_has_no_row(extended: Project) -> None:
    code = """
import pandas as pd
from stages.params.register import LeastRecall
from stages.judging.gates import judge
from stages.judging.report import Deciding, Report
from stages.judging.verdict import Evidence
from stages.problems.classification import METRICS
metric = Deciding("macro_f1", "macro-F1", "F1", False)
blank = Report(metric, "accuracy", 0.95, {}, {}, None, [], [])
for labels, candidate in (["a", "b"], "aabbb"), (["a", "b"], "aaaab"), (["a", "b"], "aaaaa"), \
(["a", "b", "c"], "aaabb"):
    rows = pd.DataFrame({"y": list("aaabb"), "candidate": list(candidate)})
    verdict = judge(LeastRecall("least_recall", 0.6), \
Evidence(rows, blank, None, [], labels, METRICS))
    print(verdict.outcome, round(min(verdict.facts["recall"].values()), 2))
"""
    assert extended.run(sys.executable, "-c", code).stdout.splitlines() == [
        "promote 0.67",
        "reject 0.5",
        "reject 0.0",
        "reject 0.0",
    ]


def test_ordinal_predicts_the_grade_nearest_to_the_expected_one(extended: Project) -> None:
    probability = np.array([[0.40, 0.25, 0.35], [0.90, 0.05, 0.05], [0.02, 0.08, 0.90]])
    found = module(extended, "ordinal").decode(np.log(probability) + 5, ["1", "2", "3"])
    assert found["predicted"].tolist() == ["2", "1", "3"]
    assert found["confidence"].tolist() == pytest.approx([0.25, 0.90, 0.90])
    argmax = plugins.problem("classification").decode(np.log(probability), ["1", "2", "3"])
    assert argmax["predicted"].tolist() == ["1", "1", "3"]
    # Labels are in the order of texts.
    unsorted = module(extended, "ordinal").decode(np.log([[0.5, 0.1, 0.4]]), ["1", "10", "2"])
    assert unsorted["predicted"].tolist() == ["2"]


def test_ordinal_knows_declared_grades_alone(extended: Project) -> None:
    assert read_json(extended, "finetune/reviews/model.json")["problem"] == "ordinal"
    assert {row["code"] for row in quarantine(extended) if "'odd'" in row["reason"]} == {
        "unknown_label"
    }
    assert set(
        pd.read_parquet(extended.root / "data/evaluate/reviews/predictions.parquet")["candidate"]
    ) <= {"1", "2", "3"}


def quarantine(project: Project) -> list[dict[str, str]]:
    with (project.root / "data/validate/reviews/quarantine.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_html_sees_words_and_no_tags(extended: Project, tiny_base: Path) -> None:
    manifest = pd.read_parquet(extended.root / "data/augment/reviews/manifest.parquet")
    same = manifest[manifest["x"].isin(SAME)]
    assert len(same) == 2 and same["group"].nunique() == 1
    copies = manifest[manifest["id"] != manifest["source_id"]]
    assert len(copies) and not copies["x"].str.contains("<").any()
    # The one of EMPTY.
    assert [row["code"] for row in quarantine(extended) if row["code"] == "too_short"] == [
        "too_short"
    ]
    pages_of, text = html(extended), plugins.modality("text")
    settings = TextModality("html", (3, 1000), (10, 500), 64)  # pyright: ignore[reportArgumentType]
    pages, words = (
        pd.DataFrame({"x": [*SAME, "<p>a &lt; b</p>"]}),
        pd.DataFrame({"x": ["the meal was good"] * 2 + ["a < b"]}),
    )
    processor = text.encoding.processor(tiny_base)
    encoded = text.encoding.encode(words, processor, settings)
    assert pages_of.encoding.encode(pages, processor, settings) == encoded
    assert pages_of.encoding.encode_anew(pages, processor, settings, None) == encoded


def test_html_alters_words_and_keeps_what_looks_like_a_tag(extended: Project) -> None:
    of_x = html(extended)
    augment = Augment(
        seed=1,
        share=1.0,
        copies=1,
        on_the_fly=False,
        transforms=(RandomWord("random_word", "swap", 1.0),),
    )
    settings = TextModality("html", (3, 1000), (10, 500), 64)  # pyright: ignore[reportArgumentType]
    sample = pd.DataFrame(
        {"id": ["a"], "source_id": ["a"], "x": ["<p>where <i>1</i> &lt;b&gt; 2</p>"]}
    )
    copies = of_x.altering.alter(sample, augment, settings, Path("a page is no file"), "")
    assert "&lt;" in copies["x"][0] and "<" not in copies["x"][0]
    looked = of_x.reading.look(copies["x"], settings)
    # nlpaug moves "<", but loses none.
    assert sorted("".join(looked["normal"][0].split())) == sorted("where1<b>2")
    assert copies["content"].tolist() == draws.digest(looked["normal"]).tolist()


@pytest.mark.parametrize(
    ("path", "stages"),
    {
        PLUG_INS["norm_only"]: {"finetune@reviews"},
        PLUG_INS["url"]: {"fetch@grades"},
        "stages/judging/gates.py": {"evaluate@reviews", "register@reviews"},  # a room is one dep
        PLUG_INS["ordinal"]: {
            f"{s}@reviews" for s in ("validate", "finetune", "export", "evaluate", "register")
        },
        PLUG_INS["html"]: {
            f"{s}@reviews"
            for s in ("validate", "augment", "split", "finetune", "export", "evaluate", "register")
        },
    }.items(),
)
def test_dvc_sees_a_change_of_the_new_file(path: str, stages: set[str], extended: Project) -> None:
    code = (extended.root / path).read_text()
    assert stale(extended) == {}
    try:
        (extended.root / path).write_text(f"{code}\n# changed\n")
        assert stale(extended).keys() == stages
    finally:
        (extended.root / path).write_text(code)


# ---- what the examples rest on -------------------------------------------------------------------


def test_settings_of_a_model_are_checked_by_the_type_of_a_task_s_modality(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Annotated[TextModality | Local, Field(discriminator="name")]
    monkeypatch.setitem(Task.__annotations__, "modality", other)
    assert plugins.settings({"name": "local"}) == Local("local")
