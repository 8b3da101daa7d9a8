"""The DAG as a Prefect flow, on Prefect's own temporary server."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

from tests.conftest import Project, block, make_project

SERVER = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
EQUAL = (
    "validate/tiny/manifest.parquet", "augment/tiny/manifest.parquet", "split/tiny/train.parquet", "split/tiny/test.parquet",
    "finetune/tiny/metrics.json", "finetune/tiny/history.json", "finetune/tiny/model/model.safetensors", "evaluate/tiny/metrics.json",
    "evaluate/tiny/predictions.parquet", "evaluate/tiny/confusion.png",
)  # fmt: skip


def test_a_flow_runs_every_stage_and_one_task_s_failure_does_not_stop_another(done: Project, tmp_path: Path, tiny_base: Path) -> None:
    """Task `broken` has too few rows for its own limits; task `tiny` must still end with a champion, and with the bytes that `dvc repro` gave elsewhere."""
    broken = block()
    broken["validate"]["min_rows"] = 100_000
    project = make_project(tmp_path / "project", tiny_base, {"tiny": block(), "broken": broken})
    ran = project.run(sys.executable, "-m", "flows.pipeline", ok=False, PREFECT_HOME=str(tmp_path / "prefect"), **SERVER)
    output = ran.stdout + ran.stderr
    assert ran.returncode == 1, output
    assert (project.root / "data/register/tiny/decision.json").is_file(), output
    assert not (project.root / "data/augment/broken").exists()
    for name in EQUAL:
        assert (done.root / "data" / name).read_bytes() == (project.root / "data" / name).read_bytes(), name
    last = next(line for line in reversed(ran.stderr.splitlines()) if line.startswith("refit: "))
    assert last.startswith("refit: 6 of 12 stages did not complete"), last
    assert all(f"{stage}@broken" in last for stage in ("validate", "augment", "split", "finetune", "evaluate", "register"))
    assert "integrity, number of rows" in output, "the stage's own line is in the log"


def test_a_flow_over_named_tasks_runs_those_alone_and_decides_nothing_itself(done: Project, tmp_path: Path) -> None:
    run = done.run(sys.executable, "-m", "flows.pipeline", "tiny", PREFECT_HOME=str(tmp_path / "prefect"), **SERVER)
    assert (run.stdout + run.stderr).count("didn't change, skipping") >= 6


def test_an_unknown_task_is_refused_by_name(done: Project, tmp_path: Path) -> None:
    run = done.run(sys.executable, "-m", "flows.pipeline", "nobody", ok=False, PREFECT_HOME=str(tmp_path / "prefect"), **SERVER)
    assert run.returncode == 2
    known = ", ".join(YAML(typ="safe").load(done.root / "params.yaml")["tasks"])
    assert f"refit: there is no task 'nobody'; have: {known}" in run.stderr
