"""Compare facts that must agree: dvc.yaml and code, params and plug-ins, README and runs."""

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages import cli
from stages.contract import modality, problem, protocols, settings
from stages.params.data import Data
from stages.params.finetune import Finetune
from stages.params.sources import Source
from stages.params.task import Task
from stages.project import graph
from tests.conftest import ROOT, Project, rows, write_csv, write_texts
from tests.mutants import MUTANTS, Mutant

DAG: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
TASK = settings.load(ROOT / "params.yaml").tasks["questions"]
# Folder of plug-ins -> the type that names them, how dvc.yaml names the file, its Protocol.
KINDS = {
    "sources": (Source, "origin", "item.origin.name", protocols.Source),
    "formats": (Source, "format", "item.format.name", protocols.Format),
    "layouts": (Data, "layout", "item.data.layout.name", protocols.Layout),
    "problems": (Task, "problem", "item.problem.name", problem.Problem),
    "methods/tune": (Finetune, "tune", "item.finetune.tune.name", protocols.Tune),
    "methods/objective": (
        Finetune,
        "objective",
        "item.finetune.objective.name",
        protocols.Objective,
    ),
    "methods/loop": (Finetune, "loop", "item.finetune.loop.name", protocols.Loop),
    "methods/export": (Task, "export", "item.export.name", protocols.Export),
}
PARTS = {  # parts of a modality, which is a folder: stages/modalities/NAME/PART.py -> its Protocol
    "reading": modality.Reading,
    "altering": modality.Altering,
    "encoding": modality.Encoder,
    "showing": modality.Showing,
    "features": modality.Features,
    "saliency": modality.Saliency,
}
MODALITY = "stages/modalities/${item.modality.name}"
FINDERS = {
    "source": "sources",
    "format": "formats",
    "layout": "layouts",
    "problem": "problems",
    "tune": "methods/tune",
    "objective": "methods/objective",
    "loop": "methods/loop",
    "export": "methods/export",
}


def module_path(name: str) -> Path | None:
    path = ROOT / f"{name.replace('.', '/')}.py"
    return path if path.is_file() else None


def imported(path: Path) -> Iterator[Path]:
    """Yield the files of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (
            found for name in names if name.startswith("stages") and (found := module_path(name))
        )


def own(stage: str) -> set[Path]:
    """Return a stage's file, those that it imports, and theirs.

    Plug-ins are found by name and are not among them.
    """
    seen, waiting = set[Path](), [ROOT / f"stages/{stage}.py"]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imported(path)
    return seen


@cache
def needed(stage: str) -> frozenset[str]:
    """Return the code that a stage depends on.

    That is its imports, theirs, and the plug-ins that any of them finds by name.
    """
    seen: set[Path] = set()
    found: set[str] = set()
    waiting = [ROOT / f"stages/{stage}.py"]
    while waiting:
        path = waiting.pop()
        if path in seen or "params" in path.parts:
            continue
        seen.add(path)
        found.add(str(path.relative_to(ROOT)))
        # The module of its name reads a template.
        if (page := path.with_suffix(".html")).is_file():
            found.add(str(page.relative_to(ROOT)))
        waiting += [below for below in imported(path) if "modalities" not in below.parts]
        for finder in re.findall(r"plugins\.(\w+)\(", path.read_text()):
            if finder == "modality":
                found.add(MODALITY)
                waiting += [
                    p for of in (ROOT / "stages/modalities").glob("*/*.py") for p in imported(of)
                ]
            if finder in FINDERS:
                folder = FINDERS[finder]
                found.add(f"stages/{folder}/${{{KINDS[folder][2]}}}.py")
                waiting += [
                    p for p in (ROOT / "stages" / folder).glob("*.py") if p.name != "__init__.py"
                ]
    return frozenset(
        name
        for name in found
        if not any(
            name.startswith(f"stages/{folder}/") and "$" not in name
            for folder in (*KINDS, "modalities")
        )
    )


@pytest.mark.parametrize("stage", DAG)
def test_the_code_deps_of_a_stage_cover_what_it_imports(stage: str) -> None:
    """A room may be one dep: more than the stage imports can never go stale.

    finetune names files, because a needless training costs hours.
    """
    deps = {d for d in DAG[stage]["do"]["deps"] if d.startswith("stages/")}
    covered = {
        name: {d for d in deps if name == d or name.startswith(f"{d}/")} for name in needed(stage)
    }
    assert not [name for name, by in covered.items() if len(by) != 1], (
        "neither named nor in a folder that is, or both"
    )
    assert deps == set().union(*covered.values()), "of which the stage imports nothing"
    assert stage != "finetune" or deps == needed(stage)


@pytest.mark.parametrize("stage", DAG)
def test_the_params_of_a_stage_are_the_sections_its_story_takes(stage: str) -> None:
    story = getattr(import_module(f"stages.{stage}"), stage)
    sections = set(inspect.signature(story).parameters) - {"job"}
    root = "sources" if stage == "fetch" else "tasks"
    assert set(DAG[stage]["do"]["params"]) == {f"{root}.${{key}}.{section}" for section in sections}


def test_no_source_is_fetched_that_no_task_uses() -> None:
    ours = settings.load(ROOT / "params.yaml")
    assert set(ours.sources) == {
        name for task in ours.tasks.values() for name in (task.base, task.data.source)
    }


# x may name a file: a function of a modality that takes x, or rows with it, may open the file.
OPENS = {"x", "samples"}


def opened(stage: str) -> set[str]:
    """Return the data that a stage reads without declaring it.

    That is the files that x names, of originals and of their copies.
    """
    functions = {
        name: of
        for part in PARTS.values()
        for name, of in inspect.getmembers(part, inspect.isfunction)
    }
    opening = {
        name for name, of in functions.items() if OPENS & set(inspect.signature(of).parameters)
    }
    called = {
        name
        for path in own(stage)
        for name in re.findall(rf"\.(?:{'|'.join(PARTS)})\.(\w+)\(", path.read_text())
    }
    # encode_anew takes train rows, and copies are among them.
    originals, copies = bool(called & opening), "encode_anew" in called
    return ({"data/raw/${item.data.source}"} if originals else set()) | (
        {"data/augment/${key}/files"} if copies else set()
    )


@pytest.mark.parametrize("stage", DAG)
def test_the_data_deps_of_a_stage_are_what_it_takes_and_what_x_names(stage: str) -> None:
    modules = [
        import_module(name)
        for name in (f"stages.{stage}", "stages.registry.candidate")
        if module_path(name) in own(stage)
    ]
    text = "".join(inspect.getsource(module) for module in modules)
    constants = {
        name: getattr(module, name)
        for module in modules
        for name in re.findall(r"\b[A-Z_]+\b", text)
        if hasattr(module, name)
    }
    wanted = opened(stage)
    for before, name in re.findall(r'job\.take\("(\w+)", f?"?([^)"]+)"?\)', text):
        names = [name]
        if name == "{name}.parquet":
            parts = (
                ("train", "validation") if stage == "finetune" else ("train", "validation", "test")
            )
            names = [f"{part}.parquet" for part in parts]
        elif name == "name":
            names = list(constants["SHOWN"])
        wanted |= {f"data/{before}/${{key}}/{n}" for n in [*names, "receipt.json"]}
    wanted |= {
        f"data/{before}/${{key}}/{name}"
        for before, name in re.findall(r'job\.unsigned\("(\w+)", "([^"]+)"\)', text)
    }
    if "job.provenance(" in text:
        wanted |= {f"data/{before}/${{key}}/provenance.json" for before in constants["STAGES"]}
    for source in re.findall(r"job\.raw\((\w+(?:\.\w+)?)\)", text):
        wanted.add(f"data/raw/${{item.{source}}}")
    if re.search(r"survey\.(survey|distances_of_rows)\(", text):
        wanted.add("data/profiles/${item.validate.domain.profile}.json")
    assert {d for d in DAG[stage]["do"]["deps"] if d.startswith("data/")} == wanted


@pytest.mark.parametrize("stage", DAG)
def test_a_command_carries_nothing_of_params_yaml_into_the_shell(stage: str) -> None:
    assert DAG[stage]["do"]["cmd"] == f"REFIT_PARENT=$PPID exec python -m stages.{stage}"


def choices(owner: Any, field: str) -> set[str]:
    """Return the names of a choice: the Literals of `name` in its union."""
    hint = typing.get_type_hints(owner)[field]
    members = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else (hint,)
    )
    return {
        name
        for member in members
        for name in typing.get_args(typing.get_type_hints(member)["name"])
    }


@pytest.mark.parametrize("folder", KINDS)
def test_plug_in_files_are_the_names_in_the_params_types(folder: str) -> None:
    owner, field, _, _ = KINDS[folder]
    assert {p.stem for p in (ROOT / "stages" / folder).glob("*.py")} - {"__init__"} == choices(
        owner, field
    )


MODALITIES = sorted(choices(Task, "modality"))
OFFERED = [
    (f"{folder.replace('/', '.')}.{name}", kind)
    for folder, (owner, field, _, kind) in KINDS.items()
    for name in sorted(choices(owner, field))
]
OFFERED += [
    (f"modalities.{name}.{part}", kind)
    for name in MODALITIES
    for part, kind in PARTS.items()
    if (ROOT / f"stages/modalities/{name}/{part}.py").is_file()
]


def test_params_knows_the_metrics_that_a_problem_has() -> None:
    hint = typing.get_type_hints(Task)["problem"]
    for of in typing.get_args(hint) or (hint,):
        for name in typing.get_args(typing.get_type_hints(of)["name"]):
            module = import_module(f"stages.problems.{name}")
            assert (tuple(module.METRICS), tuple(module.HEADLINES)) == (of.METRICS, of.HEADLINES)


def test_a_modality_is_a_folder_of_its_name() -> None:
    assert (
        sorted(
            p.name
            for p in (ROOT / "stages/modalities").iterdir()
            if p.name not in ("__init__.py", "__pycache__")
        )
        == MODALITIES
    )


@pytest.mark.parametrize(
    ("name", "protocol"), OFFERED, ids=[f"{name}-{protocol.__name__}" for name, protocol in OFFERED]
)
def test_a_plug_in_offers_what_its_protocol_says(name: str, protocol: Any) -> None:
    module = import_module(f"stages.{name}")
    assert all(hasattr(module, stated) for stated in typing.get_type_hints(protocol))
    for method, stated in inspect.getmembers(protocol, inspect.isfunction):
        if not method.startswith("_"):
            expected = list(inspect.signature(stated).parameters.values())[1:]
            offered = list(inspect.signature(getattr(module, method)).parameters.values())
            assert len(offered) == len(expected), method
            assert all(
                a.name == b.name
                for a, b in zip(offered, expected, strict=True)
                if b.kind != b.POSITIONAL_ONLY
            ), method


def test_packages_hold_no_code_so_that_importing_one_is_no_hidden_dep() -> None:
    for path in (ROOT / "stages").rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        # The process that started this one must be known before libraries are imported; no output
        # depends on it.
        if path.parent == ROOT / "stages":
            assert [ast.unparse(node) for node in body[1:]] == [
                "import os",
                "PARENT = int(os.environ.pop('REFIT_PARENT', '') or os.getppid())",
            ]
            del body[1:]
        assert [type(node) for node in body] == [ast.Expr], path


ROOMS = (  # each imports itself and those before it
    {"params"},
    {"contract"},
    {"project", "sources", "modalities"},
    {"models"},
    {"problems", "layouts", "formats", "methods", "domain", "judging"},
    {"checks", "registry", "report"},
    {"stages", "commands"},
)


def room(path: Path) -> tuple[int, str]:
    """Return how high a file's room lies, and its name; the stories and cli.py lie in `stages`."""
    parts = path.relative_to(ROOT / "stages").parts
    name = parts[0] if len(parts) > 1 else "stages"
    return next(i for i, names in enumerate(ROOMS) if name in names), name


def test_imports_go_one_way() -> None:
    """Rooms import downwards, without a circle.

    No story imports a story, and stages never import flows.
    """
    stories, between = {ROOT / f"stages/{stage}.py" for stage in DAG}, set[tuple[str, str]]()
    for path in (ROOT / "stages").rglob("*.py"):
        below = set(imported(path)) - {path}
        assert not below & stories, path
        assert "flows" not in {
            n.split(".")[0] for n in re.findall(r"^(?:from|import) (\S+)", path.read_text(), re.M)
        }, path
        height, name = room(path)
        for other in below - {ROOT / "stages/__init__.py"}:
            assert room(other)[0] <= height, f"{path} imports {other}, which lies above it"
            between |= {(name, room(other)[1])} if room(other)[1] != name else set()
    assert not [pair for pair in between if pair[::-1] in between]


def test_no_plug_in_imports_another() -> None:
    """DVC watches those that a task names, and nothing that they would borrow from a neighbour.

    The files of a modality, and layouts, help one another.
    """
    found = {
        folder: set(ROOT.glob(f"stages/{folder}/*.py"))
        for folder in (*KINDS, "modalities/text", "modalities/image")
    }
    for folder, files in found.items():
        for path in files:
            for other in set(imported(path)) - {path}:
                there = next((name for name, those in found.items() if other in those), None)
                assert there is None or (
                    there == folder and folder.startswith(("layouts", "modalities"))
                ), f"{path} imports {other}"


def test_code_that_every_task_runs_knows_no_modality() -> None:
    for path in (
        set((ROOT / "stages").rglob("*.py"))
        - set((ROOT / "stages/modalities").rglob("*.py"))
        - set((ROOT / "stages/commands").glob("*.py"))
    ):
        assert not [other for other in imported(path) if "modalities" in other.parts], path


def test_contract_and_stories_import_no_heavy_library_when_they_start() -> None:
    modules = [f"stages.{stage}" for stage in DAG]
    heavy = (
        "torch",
        "transformers",
        "sklearn",
        "mlflow",
        "great_expectations",
        "nlpaug",
        "albumentations",
        "matplotlib",
    )
    code = (
        f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; "
        f"print([h for h in {heavy} if h in sys.modules])"
    )
    from_python = subprocess.run(
        ["python", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert from_python.stdout.strip() == "[]"


def test_every_section_of_a_task_is_read_by_a_stage() -> None:
    read = {p.rpartition(".")[2] for stage in DAG for p in DAG[stage]["do"]["params"]}
    assert {f.name for f in fields(Task)} <= read
    assert all(is_dataclass(getattr(TASK, f.name)) or f.name == "base" for f in fields(Task))


def test_the_flow_s_graph_is_dvc_s_graph(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC draws its graph (`dvc dag --mermaid`); ours, which the flow runs, has the same edges."""
    drawn = project.run("dvc", "dag", "--mermaid").stdout
    names = dict(re.findall(r'(node\d+)\["([^"]+)"\]', drawn))
    theirs = {
        (names[a], names[b])
        for a, b in re.findall(r"(node\d+)-->(node\d+)", drawn)
        if not names[a].endswith(".dvc")
    }
    monkeypatch.chdir(project.root)
    waits = graph.ask(Path()).waits
    assert {(before, stage) for stage, befores in waits.items() for before in befores} == theirs
    seen: set[str] = set()
    for stage, befores in waits.items():
        assert set(befores) <= seen, "a stage stands before one that it waits for"
        seen.add(stage)


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    return [
        line.split("  #")[0].strip()
        for block in blocks
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    ]


def docs_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command of the pages, by page: lines of sh blocks, and lines after a prompt."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
        lines = [line for block in blocks for line in block.splitlines()]
        for line in [*lines, *re.findall(r"^\$ (.*)", text, re.M)]:
            for part in re.split(r" && | \| |; ", line.split(" #")[0]):
                words = shlex.split(re.sub(r"\s[<>]\s?\S+", "", part), comments=True)
                if words := [word for word in words if not re.match(r"[A-Z_]+=", word)]:
                    yield page.name, words


def test_every_command_of_the_docs_is_one_that_is_there() -> None:
    """Each is read by its program's own parser; the next tests run those of the README.

    A command that needs a network or data that is not here is read too.
    """
    import typer
    from dvc.cli.parser import get_main_parser

    ours, wrong, kinds = typer.main.get_command(cli.app), list[str](), set[str]()
    for page, (kind, *rest) in docs_commands():
        kinds.add(kind)
        try:
            if kind == "refit":
                ours.commands[rest[0]].make_context(rest[0], rest[1:])  # pyright: ignore
            elif kind == "dvc":
                get_main_parser().parse_args(rest)
            elif kind == "make":
                for target in [word for word in rest if "=" not in word]:
                    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
            elif (kind, rest[0]) == ("python", "-m"):
                assert importlib.util.find_spec(rest[1])
        except (Exception, SystemExit) as error:
            wrong.append(f"{page}: {kind} {' '.join(rest)} ({type(error).__name__}: {error})")
    assert {"refit", "dvc", "make", "python"} <= kinds
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("command", readme_commands())
def test_a_command_of_the_readme_exists(command: str) -> None:
    """make's commands are looked up in the Makefile (CI runs repro and test for real).

    The next test runs those of DVC.
    """
    if command.startswith("make "):
        target = command.split()[1]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), command
    else:
        assert command.startswith(
            ("dvc ", "refit ", "git clone", "cd ", "source .venv/bin/activate")
        ), command


@pytest.mark.slow
def test_commands_of_the_readme_run(finished: Project, tmp_path: Path) -> None:
    """They run in the order of the page, as a newcomer types them.

    The name of a task and its data are this project's. A folder of texts becomes a judged candidate
    with two of them. What the first `dvc repro` does has made `finished`.
    """
    project = finished.copy(tmp_path / "project")
    write_texts(tmp_path / "reviews", 240)
    write_csv(tmp_path / "new.csv", rows(40))
    commands = [
        c for c in readme_commands() if c.startswith(("dvc ", "refit ")) and "completion" not in c
    ]
    assert {c.split()[1] for c in commands} >= {
        "repro",
        "dag",
        "metrics",
        "params",
        "add",
        "check",
        "status",
        "predict",
        "drift",
        "history",
        "lineage",
        "impact",
    }
    said = {}
    for command in commands:
        command = command.replace(
            "add reviews ~/reviews", f"add mine {tmp_path}/reviews --base tiny_bert"
        ).replace("new.csv", f"{tmp_path}/new.csv")
        words = re.sub(
            "(dag|params|predict|drift|history|lineage) reviews", r"\1 tiny", command
        ).split()
        ran = project.run(
            *(
                [str(Path(sys.executable).with_name("refit")), *words[1:]]
                if words[0] == "refit"
                else words
            )
        )
        said[" ".join(words[:2])] = ran.stdout
    assert "240 rows of 3 labels" in said["refit add"]
    assert "next: dvc repro register@mine" in said["refit add"]
    decision = json.loads((project.root / "data/register/mine/decision.json").read_text())
    assert decision["outcome"] in ("promote", "reject", "inconclusive")
    assert decision["data"]["source"] == "mine"
    assert "data/raw/mine.dvc" in project.run("git", "status", "--porcelain", "-uall").stdout
    assert (project.root / "new.parquet").is_file()


@pytest.mark.parametrize(
    "page",
    sorted(
        p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    ),
)
def test_a_link_of_a_page_leads_to_a_file(page: str) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text()):
        assert link.startswith("http") or (ROOT / page).parent.joinpath(link).exists(), link


def test_the_page_that_compares_knows_what_there_is() -> None:
    """It names every way to tune, problem and modality, and no command that does not exist."""
    page = (ROOT / "docs/compared.md").read_text()
    first = page.partition("## Libraries that train")[0]
    row = dict(re.findall(r"^\| ([A-Z][\w -]+) \| ([^|]+) \|", first, re.M))
    methods = {
        name.strip().lower().replace(" ", "_") for name in row["Fine-tuning methods"].split(",")
    }
    assert methods == choices(Finetune, "tune")
    modalities, _, problems = row["Modalities"].partition(": ")
    assert all(f"{name}s" in modalities.lower().replace("picture", "image") for name in MODALITIES)
    said = {name.strip().split()[0].replace("-", "_").lower() for name in problems.split(",")}
    assert said == choices(Task, "problem")
    from stages.cli import app

    known = {of.name or of.callback.__name__ for of in app.registered_commands if of.callback}
    named = set(re.findall(r"`(?:refit )?([a-z]+)`", page.partition("## Pipelines")[0]))
    assert named and named <= known
    assert {"add", "predict", "adopt"} <= known


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_line_that_is_there(mutant: Mutant) -> None:
    """`make mutants` takes hours, and a line that moved would show only there."""
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
