"""What a DVC user is used to works here, and refit check and status report the project's state."""

import importlib
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stages.commands import reference
from stages.commands.status import STAGES
from stages.contract import locks, settings
from tests.conftest import ROOT, Project, block

BIN = Path(sys.executable).parent
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
METRICS = ("data/finetune/tiny/metrics.json", "data/evaluate/tiny/metrics.json")
RATE = "tasks.tiny.finetune.learning_rate"


def copied(done: Project, folder: Path) -> Project:
    """Return a test's own project, in which what has run is committed."""
    project = done.copy(folder / "project")
    project.run(*GIT, "add", "-A")
    project.run(*GIT, "commit", "-qm", "run")
    return project


def refit(
    project: Project, *arguments: str, ok: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    return project.run(str(BIN / "refit"), *arguments, ok=ok, **environment)


def status(project: Project, **environment: str) -> dict[str, Any]:
    return json.loads(refit(project, "status", "--json", **environment).stdout)[0]


@pytest.mark.slow
def test_an_experiment_changes_one_setting_and_shows_what_it_did(
    done: Project, tmp_path: Path
) -> None:
    project = copied(done, tmp_path)
    ran = project.run(
        "dvc", "exp", "run", "-n", "slower", "-S", f"{RATE}=1e-9", "finetune@tiny"
    ).stdout
    assert "Running stage 'finetune@tiny'" in ran
    assert "Running stage 'split@tiny'" not in ran

    changed = json.loads(project.run("dvc", "params", "diff", "--json").stdout)["params.yaml"]
    assert (changed[RATE]["old"], changed[RATE]["new"], len(changed)) == (0.01, 1e-9, 1)
    metrics = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)[
        "data/finetune/tiny/metrics.json"
    ]
    assert metrics["macro_f1"]["new"] < metrics["macro_f1"]["old"]
    shown = project.run("dvc", "exp", "show", "--csv", "--only-changed").stdout
    assert "slower" in shown
    assert RATE in shown

    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")
    assert (project.root / "data/raw/reviews/train.csv").is_file()
    assert "Data and pipelines are up to date." in project.run("dvc", "status").stdout

    # what is committed meanwhile stays if the experiment comes as a branch, not by `dvc exp apply`
    project.params(lambda p: p["flows"].update(retries=9))
    project.run(*GIT, "commit", "-qam", "meanwhile")
    project.run("dvc", "exp", "branch", "slower", "slower")
    project.run(*GIT, "merge", "-q", "-m", "slower", "slower")
    project.run("dvc", "checkout", "-q")
    params = settings.load(project.root / "params.yaml")
    assert (params.flows.retries, params.tasks["tiny"].finetune.learning_rate) == (9, 1e-9)
    stale = [line.partition(":")[0] for line in status(project)["stages"]]
    assert stale == ["export@tiny", "evaluate@tiny", "register@tiny"]


def test_metrics_plots_and_the_graph_are_shown(done: Project) -> None:
    metrics = json.loads(done.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert set(metrics) == set(METRICS)
    shown = done.run("dvc", "plots", "show", "-o", "plots")
    assert "WARNING" not in shown.stderr
    page = (done.root / "plots/index.html").read_text()
    assert "macro_f1" in page and "score" in page
    assert "confusion" in page
    done.run(sys.executable, "-m", "stages.project.plots")
    done.run("dvc", "plots", "show", "-o", "plots", "--html-template", ".dvc/plots.html")
    offline = (done.root / "plots/index.html").read_text()
    assert "<script src=" in page and "<script src=" not in offline
    assert offline.count("vegaEmbed(") >= 2 and "window.vegaEmbed=" in offline
    (done.root / ".dvc/plots.html").unlink()
    edges = done.run("dvc", "dag", "--dot").stdout
    assert '"data/raw/reviews.dvc" -> "validate@tiny"' in edges
    shutil.rmtree(done.root / "plots")


@pytest.mark.slow
def test_a_task_that_never_ran_stops_no_command_and_pull_brings_what_there_is(
    done: Project, tmp_path: Path
) -> None:
    project = copied(done, tmp_path)
    project.params(lambda p: p["tasks"].update(never=json.loads(json.dumps(block()))))
    project.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    project.run(*GIT, "commit", "-qam", "never")
    rows = project.run("dvc", "metrics", "show", "--md", METRICS[0]).stdout
    assert "tiny" in rows and "never" not in rows
    project.run("dvc", "plots", "show", "-o", "plots")
    assert "never" not in project.run("dvc", "exp", "show", "--only-changed", "--csv").stdout
    for command in (  # what VS Code's extension asks
        ("exp", "show", "--json"),
        ("data", "status", "--granular", "--json"),
        ("params", "diff", "--json"),
        ("metrics", "diff", "--json"),
        ("plots", "diff", "-o", "plots", "--split", "--json"),
    ):
        answer = project.run("dvc", *command).stdout
        json.loads(answer or "{}")
    project.run("dvc", "push", "-q")
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "pull", "--allow-missing", "-q")
    assert (clone.root / "data/export/tiny/model/model.safetensors").is_file()
    assert all((clone.root / name).is_file() for name in METRICS)


def test_the_dag_of_a_task_fits_a_terminal_and_says_what_is_out_of_date(
    done: Project, tmp_path: Path
) -> None:
    project = copied(done, tmp_path)
    project.params(lambda p: p["tasks"]["tiny"]["evaluate"].update(bins=7))
    lines = refit(project, "dag", "tiny").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split("  ")[0] for line in lines[1:]] == [f"{of}@tiny" for of in STAGES]
    nodes = {row["stage"]: row for row in json.loads(refit(project, "dag", "--json").stdout)}
    assert nodes["register@tiny"]["after"] == ["evaluate@tiny"]
    assert nodes["evaluate@tiny"]["state"] == "tasks.tiny.evaluate modified"
    assert nodes["split@tiny"]["state"] == "up to date" and nodes["split@tiny"]["seconds"] > 0
    refused = refit(project, "dag", "nothing", ok=False)
    assert refused.returncode == 2 and "there is no task 'nothing'" in refused.stderr


@pytest.mark.slow
def test_status_and_dag_answer_while_a_stage_runs(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    path, gate = project.root / "stages/export.py", project.root / "wait"
    path.write_text(
        path.read_text().replace(
            '    folder = job.take("finetune", "model")\n',
            "    import os, time\n    while os.path.exists('wait'): time.sleep(0.1)\n"
            '    folder = job.take("finetune", "model")\n',
        )
    )
    gate.touch()
    command = [str(BIN / "dvc"), "repro", "export@tiny"]
    with subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not locks.holder(project.root / "data/.work/export/tiny"):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        found = status(project)
        nodes = {row["stage"]: row for row in json.loads(refit(project, "dag", "--json").stdout)}
        gate.unlink()
        assert process.wait(60) == 0
    assert found["stages"][0].startswith("export@tiny: has been running since ")
    assert found["next"] == ["wait until it has run"]
    assert nodes["export@tiny"]["state"].startswith("has been running since ")
    assert nodes["evaluate@tiny"]["state"] == "waits for a stage that is running"


def test_dvc_keeps_the_raw_data_that_it_tracks(done: Project, tmp_path: Path) -> None:
    """With /data/* in .gitignore, DVC finds no data/raw/NAME.dvc, and checkout deletes the folder.

    This was measured with DVC 3.67.
    """
    project = copied(done, tmp_path)
    said = project.run("dvc", "checkout").stdout
    assert "reviews" not in said
    assert (project.root / "data/raw/reviews/train.csv").is_file()


@pytest.mark.slow
def test_a_run_is_restored_on_another_clone_and_judged_there_without_training(
    done: Project, tmp_path: Path
) -> None:
    project = copied(done, tmp_path)
    project.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    project.run(*GIT, "commit", "-qam", "remote")
    project.run("dvc", "push", "-q")

    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "config", "--local", "core.site_cache_dir", str(tmp_path / "clone/.dvc/site"))
    clone.run("dvc", "pull", "-q")
    for stage in ("finetune", "evaluate"):
        name = f"data/{stage}/tiny/metrics.json"
        assert (clone.root / name).read_bytes() == (project.root / name).read_bytes()

    before = status(clone)
    assert before["champion"] == "no champion"
    assert [line.partition(":")[0] for line in before["stages"]] == ["register@tiny"]
    assert before["next"] == [
        "the registry here lacks this candidate; `dvc repro register@tiny` judges and registers it"
    ]
    assert clone.ran("register@tiny") == {"register@tiny"}
    after = status(clone)
    assert after["champion"].startswith("champion is version 1")
    assert after["next"] == []

    (clone.root / "mlflow.db").unlink()  # the registry is lost, the decision is not
    shutil.rmtree(clone.root / "mlruns")
    command = status(clone)["next"][0].split("`")[1]
    clone.run(*command.split())
    assert status(clone)["champion"].startswith("champion is version 1")


@pytest.mark.slow
def test_status_says_why_a_stage_is_out_of_date(done: Project) -> None:
    assert status(done)["stages"] == ["every stage is up to date"]
    assert status(done)["decision"][0].startswith(
        "last decision: promote version 1 against baselines: macro-F1"
    )
    path = done.root / "params.yaml"
    kept = path.read_bytes()
    try:
        done.params(lambda p: p["tasks"]["tiny"]["finetune"].update(learning_rate=0.5))
        found = status(done)
        assert found["stages"] == ["finetune@tiny: tasks.tiny.finetune modified"]
        assert found["next"][0].startswith("`dvc repro register@tiny` (last time: ")
    finally:
        path.write_bytes(kept)
    said = refit(done, "status").stdout
    assert said.startswith(
        "tiny: champion is version 1, promoted against baselines\n  every stage is up to date\n"
    )


@pytest.mark.slow
def test_check_tells_all_that_is_wrong_before_anything_runs(done: Project, tmp_path: Path) -> None:
    assert all(found["ok"] for found in json.loads(refit(done, "check", "--json").stdout))
    project = done.copy(tmp_path / "project")
    shutil.rmtree(project.root / "data/raw/tiny_bert")
    project.params(lambda p: p["tasks"]["tiny"]["data"]["layout"]["columns"].update(y="stars"))
    failed = refit(project, "check", ok=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert failed.returncode == 2
    wrong = [line for line in failed.stdout.splitlines() if line.startswith("WRONG")]
    assert [line.split()[1] for line in wrong] == [
        "data/raw/tiny_bert",
        "tasks.tiny.data",
        "MLflow",
    ]
    assert "`dvc pull data/raw/tiny_bert.dvc`" in wrong[0]
    assert "found: text, label" in wrong[1]
    assert "does not answer" in wrong[2]

    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(epochs="many"))
    failed = refit(project, "check", ok=False)
    assert failed.returncode == 2
    assert "tasks.tiny.finetune.epochs" in failed.stdout


def test_help_is_there_at_once_and_imports_nothing_heavy() -> None:
    heavy = (
        "torch",
        "transformers",
        "mlflow",
        "pandas",
        "pyarrow",
        "pydantic",
        "great_expectations",
        "dvc",
    )
    code = f"import sys, stages.cli; print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        == "[]\n"
    )
    seconds = []
    for _ in range(5):  # of CPU: the machine may be busy with other tests
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(
            [BIN / "refit", "--help"], capture_output=True, text=True, check=True
        ).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert all(command in shown for command in ("add", "check", "status", "predict"))
    assert min(seconds) <= 0.3


def test_no_command_but_predict_imports_torch() -> None:
    modules = [f"stages.commands.{name}" for name in ("add", "check", "status", "predict")]
    code = (
        f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; "
        "print([n for n in ('torch', 'transformers', 'mlflow') if n in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell: str) -> None:
    environment = {"_REFIT_COMPLETE": f"source_{shell}"}
    shown = subprocess.run(
        [BIN / "refit"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": str(BIN)} | environment,
    ).stdout
    assert "_REFIT_COMPLETE=complete_" in shown


def test_the_reference_of_params_is_that_of_the_types() -> None:
    assert (ROOT / "docs/params.md").read_text() == reference.page()
    names = [path.stem for path in (ROOT / "stages/params").glob("*.py")]
    sections = [importlib.import_module(f"stages.params.{name}") for name in names]
    for name, texts in reference.meanings().items():
        section = next(of for of in sections if hasattr(of, name))
        keys = set(getattr(getattr(section, name), "__dataclass_fields__", ()))
        assert keys <= texts.keys() | {"name"}, name
        assert all(texts.values()), name
