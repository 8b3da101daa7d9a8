"""Situations that people met elsewhere, made anew: each ends right, or in one line that names the cause and what to do."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from stages import registry
from stages.contract import receipts
from tests.conftest import Project, rows, write_csv

# ---- MLflow, git and DVC -------------------------------------------------------------------------------------------------


@pytest.fixture
def registered(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that is not where it was made, with a champion; it is the current folder."""
    project = finished.copy(tmp_path / "moved here")
    write_csv(project.root / "new.csv", rows(30, seed=9))
    monkeypatch.chdir(project.root)
    return project


def client() -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")


def decide_again(project: Project, ok: bool = True, **environment: str) -> Any:
    shutil.rmtree(project.root / "data/register/tiny")
    return project.stage("register", ok=ok, **environment)


def test_a_project_that_was_moved_works_by_its_own_files_alone(registered: Project, finished: Project) -> None:
    before = receipts.files(finished.root, ["mlruns"])
    assert "30 rows" in registered.run("refit", "predict", "tiny", "new.csv").stdout
    assert registered.run("refit", "drift", "tiny", "new.csv").returncode in (0, 1)
    assert "version 1: promote" in decide_again(registered).stdout
    assert receipts.files(finished.root, ["mlruns"]) == before, "the place that it was copied from stays as it was"
    run = client().get_run(registry.version("tiny", "1").run_id)
    assert run.info.artifact_uri.startswith(str(registered.root)), "MLflow's page finds its artifacts too"


def test_artifacts_that_are_gone_are_said_with_the_place_they_are_looked_for(registered: Project) -> None:
    assert registry.champion("tiny")
    (registered.root / "mlruns").rename(registered.root / "elsewhere")
    said = registered.run("refit", "predict", "tiny", "new.csv", ok=False)
    assert said.returncode == 2
    assert f"refit: tiny@1: the registry has lost its artifacts (nothing lies at {registered.root}/mlruns/1/models/" in said.stderr


def test_an_experiment_that_was_deleted_is_said_before_training_and_by_check(registered: Project) -> None:
    experiment = client().get_experiment_by_name("tiny").experiment_id
    client().delete_experiment(experiment)
    for said in (registered.stage("finetune", ok=False), registered.run("refit", "check", ok=False), decide_again(registered, ok=False)):
        assert f"mlflow experiments restore --experiment-id {experiment}" in said.stdout + said.stderr
        assert said.returncode in (1, 2)
    client().restore_experiment(experiment)
    assert "version 1: promote" in registered.stage("register").stdout


def test_a_run_that_was_deleted_is_said_and_no_tag_is_half_written(registered: Project) -> None:
    version = registry.version("tiny", "1")
    client().delete_run(version.run_id)
    said = decide_again(registered, ok=False)
    assert said.returncode == 2
    assert f"mlflow runs restore --run-id {version.run_id}" in said.stderr
    assert registry.version("tiny", "1") == version
    client().restore_run(version.run_id)
    assert "version 1: promote" in registered.stage("register").stdout


def test_a_folder_of_files_is_refused_before_training_and_by_check(registered: Project, tmp_path: Path) -> None:
    address = f"file://{tmp_path}/fs"
    for said in (registered.stage("finetune", ok=False, MLFLOW_TRACKING_URI=address), registered.run("refit", "check", ok=False, MLFLOW_TRACKING_URI=address)):
        assert "is a folder of files" in said.stdout + said.stderr
        assert said.returncode in (1, 2)


def test_a_run_that_another_tool_left_in_a_variable_is_not_ours(registered: Project) -> None:
    decide_again(registered, MLFLOW_RUN_ID="0123456789abcdef0123456789abcdef")
    registered.params(lambda params: params["tasks"]["tiny"]["finetune"].update(seed=5, epochs=1))
    registered.through("finetune", "evaluate", "register", MLFLOW_RUN_ID="0123456789abcdef0123456789abcdef")
    assert [of.number for of in registry.versions("tiny")] == [1, 2]


@pytest.mark.slow
def test_an_experiment_in_a_workspace_of_dvc_s_is_judged_by_the_project_s_registry(registered: Project) -> None:
    registered.run("git", "add", "-A")
    registered.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all")
    registered.run("dvc", "exp", "run", "--temp", "-n", "t1", "-S", "tasks.tiny.finetune.seed=6", "-S", "tasks.tiny.finetune.epochs=1", "register@tiny")
    assert [of.number for of in registry.versions("tiny")] == [1, 2]
    assert registry.version("tiny", "2").judged_against == "version_1"
    with registry.artifact(registry.version("tiny", "2"), "lineage/provenance.json") as kept:
        assert kept, "its artifacts outlive the workspace"
