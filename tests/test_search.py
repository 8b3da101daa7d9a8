"""The search of the way to learn, the learning curve, and versions that are reused."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.commands import learning_curve, search, trials
from stages.commands.learning_curve import Point
from stages.commands.search import Trial
from stages.commands.trials import Outcome
from stages.contract import manifest, plugins, settings
from stages.contract.errors import ModelError, ParamsError
from stages.judging.evidence import Interval
from tests.conftest import Project
from tests.test_add import REFIT

METRIC = plugins.problem("classification").METRICS["macro_f1"]


def refit(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return project.run(str(REFIT), *arguments, ok=ok)


def outcome(value: float, cpu: float, half: float = 0.05) -> Outcome:
    return Outcome(Interval(value, value - half, value + half), 100, cpu, cpu, 10)


def trial(number: int, way: str, value: float, cpu: float, whole: bool = True) -> Trial:
    return Trial(number, way, {}, outcome(value, cpu), whole, "" if whole else "others were better")


def test_the_cheapest_within_the_interval_of_the_best_is_chosen() -> None:
    done = [
        trial(0, "probe", 0.80, 1),
        trial(1, "lora", 0.88, 5),
        trial(2, "full", 0.90, 20),
        trial(3, "part", 0.99, 2, whole=False),
        Trial(4, "failed", {}, None, False, "nothing was learned"),
    ]
    best, chosen = search.choose(done, METRIC)
    assert (best.way, chosen.way) == ("full", "lora")
    with pytest.raises(ModelError, match=r"no trial learned from all rows \(others were better"):
        search.choose(done[3:], METRIC)
    rmse = plugins.problem("regression").METRICS["rmse"]
    less = [trial(0, "cheap", 0.93, 1), trial(1, "best", 0.90, 9), trial(2, "worse", 0.99, 0.5)]
    assert [one.way for one in search.choose(less, rmse)] == ["best", "cheap"]


def test_a_subset_has_a_share_of_each_class_and_its_copies_and_grows(done: Project) -> None:
    train = manifest.read(done.root / "data/split/tiny/train.parquet")
    small, large = (set(trials.subset(train, share)["id"]) for share in (0.25, 0.5))
    assert small < large < set(train["id"])
    rows = trials.subset(train, None, 3)
    originals = rows[rows["id"] == rows["source_id"]]
    assert set(originals["stratum"].value_counts()) == {3}
    assert set(rows["source_id"]) == set(originals["id"])
    assert set(trials.subset(train, None, 3, draw=1)["id"]) != set(rows["id"])


def test_the_law_of_a_curve_is_found_again_and_says_what_the_next_hundredth_costs() -> None:
    def point(rows: int, error: float) -> Point:
        return Point(rows, 1 - error, 0.0, 1.0, 1.0)

    points = [point(rows, 2 * rows**-0.4) for rows in (100, 200, 400, 800)]
    law = learning_curve._law(points)
    assert law == pytest.approx((2, 0.4))
    more = learning_curve._more(points, law)
    assert more is not None
    assert 1 - 2 * (800 + more) ** -0.4 == pytest.approx(points[-1].score + 0.01, abs=1e-4)
    worse = [point(100, 0.1), point(200, 0.2)]
    assert learning_curve._law(worse) is None and learning_curve._more(worse, None) is None
    nothing_left = [point(100, 0.0), point(200, 0.0)]
    assert learning_curve._more(nothing_left, learning_curve._law(nothing_left)) is None


def test_every_way_of_the_search_works_with_a_task_of_its_modality(root: Path) -> None:
    for name, task in settings.load(root / "params.yaml").tasks.items():
        known = settings.read_yaml(search.WAYS)[task.modality.name]
        assert set(search.ways(task)) == set(known), name


@pytest.fixture
def root() -> Path:
    from tests.conftest import ROOT

    return ROOT


@pytest.fixture
def searching(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose task is split, with three quick ways to try."""
    project = done.copy(tmp_path / "project")
    ways = {
        "linear_probe": {"set": {"tune": {"name": "linear_probe"},
                                 "head": {"name": "probe", "c": [1.0]}}},
        "full": {"set": {"tune": {"name": "full", "embeddings": True}, "epochs": 3},
                 "between": {"learning_rate": [0.005, 0.02]}},
        "diverges": {"set": {"tune": {"name": "full", "embeddings": True}, "learning_rate": 1e30,
                             "optimizer": {"name": "sgd", "momentum": 0.9}, "epochs": 3}},
    }  # fmt: skip
    (tmp_path / "ways.yaml").write_text(json.dumps({"text": ways}))
    monkeypatch.setattr(search, "WAYS", tmp_path / "ways.yaml")
    monkeypatch.chdir(project.root)
    return project


@pytest.mark.slow
def test_a_search_tries_ways_writes_the_chosen_one_and_goes_on_where_it_was(
    searching: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    before = settings.task("tiny")
    tried = list[str]()
    run = trials.run

    def once(bench: Any, finetune: Any, rows: Any) -> Any:
        tried.append(finetune.tune.name)
        if len(tried) == 2:
            raise KeyboardInterrupt
        return run(bench, finetune, rows)

    monkeypatch.setattr(trials, "run", once)
    with pytest.raises(KeyboardInterrupt):
        search.search("tiny", 5.0, 4, write=True)
    assert settings.task("tiny") == before
    found = search.search("tiny", 5.0, 4, write=True)
    assert found.trials[0].way == "linear_probe" and len(found.trials) == 4
    assert {"linear_probe", "full", "diverges"} == {one.way for one in found.trials}
    failed = next(one for one in found.trials if one.way == "diverges")
    assert failed.outcome is None and "not finite" in failed.why
    after = settings.task("tiny").finetune
    assert after.tune.name == found.chosen.finetune["tune"]["name"]
    assert replace(settings.task("tiny"), finetune=before.finetune) == before
    again = search.search("tiny", 5.0, 4, write=True)
    assert again.trials == found.trials, "the same search, which has ended"
    page = Path(found.page).read_text()
    assert "linear_probe" in page and "not finite" in page
    lines = search.told(found)
    assert lines[-3].startswith("best: ") and lines[-2].startswith("chosen: ")
    runs: Any = mlflow.search_runs(experiment_names=["tiny"], output_format="list")
    parents = [one for one in runs if "refit.search" in one.data.tags]
    children = [one for one in runs if one.data.tags.get("mlflow.parentRunId")]
    assert len(parents) == 1 and len(children) == 4
    assert {one.data.tags["mlflow.parentRunId"] for one in children} == {parents[0].info.run_id}
    with pytest.raises(ParamsError, match="so no trial could end; give more"):
        search.search("tiny", 1e-6, 4, write=True)


@pytest.mark.slow
def test_a_curve_has_a_point_for_each_size_that_taught_something(searching: Project) -> None:
    made = learning_curve.learning_curve("tiny", 3, 2)
    rows = [point.rows for point in made.points]
    assert rows == sorted(rows) and len(rows) >= 2
    assert all(point.low <= point.score <= point.high for point in made.points)
    assert Path(made.picture).read_bytes().startswith(b"\x89PNG")
    assert json.loads(Path(made.picture).with_suffix(".json").read_text())["task"] == "tiny"
    assert len(learning_curve.told(made)) == len(rows) + 2


@pytest.mark.slow
def test_a_version_is_a_base_model_and_a_teacher(done: Project, tmp_path: Path) -> None:
    project = done.copy(tmp_path / "project")
    made = json.loads(refit(project, "reuse", "teacher", "tiny@1", "--json").stdout)
    assert (project.root / "data/raw/teacher/refit.json").is_file()
    distill = {
        "name": "distill", "teacher": "teacher", "sha256": made["sha256"], "share": 0.5,
        "temperature": 2.0, "features": 0.5,
    }  # fmt: skip
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(objective=distill))
    project.stage("finetune")
    taken = json.loads((project.root / "data/finetune/tiny/provenance.json").read_text())["inputs"]
    assert any(path.startswith("data/raw/teacher/") for path in taken)
    project.params(lambda p: p["tasks"]["tiny"]["finetune"]["objective"].update(sha256="0" * 64))
    assert made["sha256"] in project.stage("finetune", ok=False).stderr
    refused = {
        "tiny_bert": "has no refit.json; bring a registered version with `refit reuse NAME",
        "nowhere": "there is no source 'nowhere'",
    }
    for teacher, fact in refused.items():
        project.params(
            lambda p, of=teacher: p["tasks"]["tiny"]["finetune"]["objective"].update(teacher=of)
        )
        said = project.stage("finetune", ok=False).stderr
        assert fact in said or "finetune.objective.sha256" in said
    project.params(
        lambda p: p["tasks"]["tiny"]["finetune"]["objective"].update(
            teacher="teacher", sha256=made["sha256"]
        )
    )
    project.params(lambda p: p["tasks"]["tiny"].update(base="teacher"))
    project.stage("finetune")
    described = json.loads((project.root / "data/finetune/tiny/model.json").read_text())
    assert described["base"]["source"] == "teacher"
    taken = refit(project, "reuse", "teacher", "tiny@1", ok=False).stderr
    assert "params.yaml has a source teacher" in taken
    assert "has no version 9" in refit(project, "reuse", "other", "tiny@9", ok=False).stderr
    assert set(settings.load(project.root / "params.yaml").sources) == {"teacher"}
