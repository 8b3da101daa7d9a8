"""Mutation tests of staleness: a change re-runs the stages that use it, and no other."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from stages.params.task import Task
from tests.conftest import ROOT, Project
from tests.test_architecture import DAG

TASK_STAGES = tuple(stage for stage in DAG if stage != "fetch")
CHOSEN = {  # the plug-ins of the task `tiny`
    "${item.data.layout.name}": "table",
    "${item.modality.name}": "text", "${item.problem.name}": "classification",
    "${item.finetune.tune.name}": "full",
    "${item.finetune.objective.name}": "cross_entropy", "${item.finetune.loop.name}": "local",
    "${item.export.name}": "plain",
    "${item.origin.name}": "package", "${item.format.name}": "as_is",
}  # fmt: skip
LEAVES: dict[str, Any] = {  # a value of each section, changed to another allowed one
    "modality": ("max_tokens", 32),
    "problem": ("labels", {"praise": "praise", "blame": "blame", "ask": "question"}),
    "base": None,
    "data": ("layout", {
        "name": "table", "files": [{"path": "train.csv", "part": None, "rows": [1, 200]}],
        "columns": {"x": "text", "y": "label"}, "dialect": None,
    }),
    "compute": ("batch_size", 16), "validate": ("min_rows", 21),
    "augment": ("seed", 8), "split": ("seed", 8), "label_issues": ("drop", True),
    "finetune": ("seed", 1), "export": ("name", "other"),
    "evaluate": ("baselines", [{"name": "tfidf_logistic", "ngrams": [1, 1], "c": 1.0}]),
    "register": ("gates", [{"name": "floor", "metric": "accuracy", "least": 0.1}]),
}  # fmt: skip


def users_of(module: str) -> set[str]:
    """Return the stages of task `tiny` that name a module, or its room, in dvc.yaml.

    test_architecture holds what they name to what they import.
    """
    found = set()
    for stage in TASK_STAGES:
        names = DAG[stage]["do"]["deps"]
        for variable, name in CHOSEN.items():
            names = [n.replace(variable, name) for n in names]
        if covered(module, names):
            found.add(f"{stage}@tiny")
    return found


def covered(module: str, names: Iterable[str]) -> bool:
    """Return whether deps name a module, or the folder that it lies in."""
    return any(module == name or module.startswith(f"{name}/") for name in names)


def reasons(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Return the stages that DVC would run, and its reasons: something they name has changed."""
    from dvc.repo import Repo

    with Repo(str(project.root)) as repo:
        return {address.rpartition(":")[2]: of for address, of in repo.status().items()}


def stale(project: Project) -> dict[str, set[str]]:
    """Return the stages that DVC would run because files that they name changed, and the files."""
    return {
        stage: {name for of in found for name in of.get("changed deps", {})}
        for stage, found in reasons(project).items()
    }


MODULES = sorted(
    str(p.relative_to(ROOT))
    for p in (ROOT / "stages").rglob("*.py")
    if p.name not in ("__init__.py", "params.py")
)


@pytest.fixture(scope="module")
def all_changed(done: Project) -> dict[str, set[str]]:
    """Return the stages that DVC would run if every module changed, and the modules of each."""
    kept = {module: (done.root / module).read_bytes() for module in MODULES}
    try:
        for module, code in kept.items():
            (done.root / module).write_bytes(code + b"\n# changed\n")
        return stale(done)
    finally:
        for module, code in kept.items():
            (done.root / module).write_bytes(code)


@pytest.mark.parametrize("module", MODULES)
def test_a_changed_module_makes_exactly_its_users_stale(
    all_changed: dict[str, set[str]], module: str
) -> None:
    assert {
        stage for stage, changed in all_changed.items() if covered(module, changed)
    } == users_of(module)


def test_stages_are_stale_for_what_changed_and_nothing_else(
    done: Project, all_changed: dict[str, set[str]]
) -> None:
    named = set().union(*all_changed.values())
    assert all(any(covered(module, [name]) for module in MODULES) for name in named)
    assert {name for name in named if name.startswith("stages/modalities/")} == {
        "stages/modalities/text"
    }
    assert stale(done) == {}


@pytest.fixture(scope="module")
def other_settings(done: Project) -> dict[str, set[str]]:
    """Return the stages that DVC would run if every section changed, and the keys of each."""
    path = done.root / "params.yaml"
    kept = path.read_bytes()

    def change(document: Any) -> None:
        task = document["tasks"]["tiny"]
        task["base"] = "reviews"
        for section, leaf in LEAVES.items():
            if leaf:
                task[section][leaf[0]] = leaf[1]

    try:
        done.params(change)
        changed = {
            stage: [of.get("changed deps", {}).get("params.yaml", {}) for of in found]
            for stage, found in reasons(done).items()
        }
        return {stage: {key for of in found for key in of} for stage, found in changed.items()}
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("section", [f.name for f in fields(Task)])
def test_a_changed_section_makes_exactly_its_readers_stale(
    other_settings: dict[str, set[str]], section: str
) -> None:
    readers = {
        f"{stage}@tiny"
        for stage in TASK_STAGES
        if f"tasks.${{key}}.{section}" in DAG[stage]["do"]["params"]
    }
    assert {
        stage for stage, keys in other_settings.items() if f"tasks.tiny.{section}" in keys
    } == readers


@pytest.mark.slow
def test_a_stage_that_ran_anew_and_wrote_the_same_runs_nothing_after_it(done: Project) -> None:
    for module in ("stages/evaluate.py", "stages/layouts/table.py"):
        path = Path(done.root, module)
        path.write_bytes(path.read_bytes() + b"\n# changed\n")
    assert done.ran() == {"evaluate@tiny", "validate@tiny"}
    done.params(lambda params: params["tasks"]["tiny"]["label_issues"].update(folds=4))
    # Another list of labels trains nothing anew.
    assert {"split@tiny"} <= done.ran() <= {"split@tiny", "evaluate@tiny", "register@tiny"}
