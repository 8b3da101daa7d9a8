"""The whole DAG, run by the real DVC into the real MLflow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.commands.status import STAGES
from tests.conftest import Project, rows, write_csv

EQUAL = (
    "validate/tiny/manifest.parquet", "augment/tiny/manifest.parquet", "split/tiny/train.parquet",
    "split/tiny/test.parquet",
    "finetune/tiny/metrics.json", "finetune/tiny/history.json",
    "finetune/tiny/model/model.safetensors", "evaluate/tiny/metrics.json",
    "evaluate/tiny/predictions.parquet", "evaluate/tiny/confusion.png",
)  # fmt: skip


def load(project: Project, name: str) -> Any:
    return json.loads((project.root / "data" / name).read_text())


def client(project: Project) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{project.root}/mlflow.db")


def test_a_first_model_that_beats_the_cheap_baselines_becomes_champion(done: Project) -> None:
    decision = load(done, "register/tiny/decision.json")
    assert decision["outcome"] == "promote", decision
    assert decision["against"] == "baselines"
    champion = client(done).get_model_version_by_alias("tiny", "champion")
    assert champion.version == 1
    assert champion.tags["refit.model_sha256"] == decision["candidate"]["model_sha256"]


def test_dvc_runs_every_stage_anew_and_it_makes_the_same_bytes(
    done: Project, project: Project
) -> None:
    """Each stage runs in a process that starts with nothing.

    What other tests start from was made in processes that had imported the libraries.
    """
    output = project.repro().stdout
    assert [
        line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")
    ] == [f"{stage}@tiny" for stage in STAGES]
    for name in EQUAL:
        assert (project.root / "data" / name).read_bytes() == (
            done.root / "data" / name
        ).read_bytes(), name
    assert load(project, "register/tiny/decision.json")["outcome"] == "promote"
    assert "Data and pipelines are up to date." in project.repro().stdout


def test_the_run_tells_what_the_champion_was_made_from(done: Project) -> None:
    champion = client(done).get_model_version_by_alias("tiny", "champion")
    run = client(done).get_run(champion.run_id)
    tracked = (done.root / "data/raw/reviews.dvc").read_text()
    assert run.data.tags["refit.data_md5"] in tracked
    assert run.data.tags["refit.git_commit"] == done.run("git", "rev-parse", "HEAD").stdout.strip()
    digests = {d.tags[0].value: d.dataset.digest for d in run.inputs.dataset_inputs}
    assert digests.keys() == {"raw", "train", "validation", "test"}
    assert digests["raw"] == run.data.tags["refit.data_md5"]
    assert all(digests[part] in (done.root / "dvc.lock").read_text() for part in digests)
    assert run.data.params["finetune.learning_rate"] == "0.01"
    assert run.data.metrics["macro_f1"] == load(done, "evaluate/tiny/metrics.json")["macro_f1"]
    assert len(client(done).get_metric_history(champion.run_id, "eval_macro_f1")) == 3
    names = {
        f.path
        for folder in ("lineage", "evaluate", "augment", "data_docs")
        for f in client(done).list_artifacts(champion.run_id, folder)
    }
    assert {"lineage/dvc_lock.json", "lineage/provenance.json", "evaluate/confusion.png"} <= names
    assert {"augment/pairs.json", "data_docs/index.html", "data_docs/domain.html"} <= names


def measured_on_validation() -> float:
    """Return the macro-F1 of the saved model of `tiny` on its validation rows.

    The project is the current folder.
    """
    from stages.contract import manifest, settings
    from stages.models import scoring
    from stages.problems import classification

    validation = manifest.read(Path("data/split/tiny/validation.parquet"))
    found = scoring.predict(
        Path("data/finetune/tiny"), validation, settings.load().tasks["tiny"].compute
    )
    y = classification.values(validation["y"]).tolist()
    return classification.measure(y, found["predicted"].tolist(), sorted(set(y)))["macro_f1"]


def test_validation_metrics_are_those_of_the_saved_model_on_the_validation_rows(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer may batch validation by length; a metric that trusts its order would be chance."""
    monkeypatch.chdir(done.root)
    assert load(done, "finetune/tiny/metrics.json")["macro_f1"] == pytest.approx(
        measured_on_validation(), abs=1e-9
    )


def test_nothing_runs_when_nothing_changed(done: Project) -> None:
    assert "Data and pipelines are up to date." in done.repro().stdout


def test_held_out_parts_hold_originals_only_and_copies_are_in_train(done: Project) -> None:
    parts = {
        name: pd.read_parquet(done.root / f"data/split/tiny/{name}.parquet")
        for name in ("train", "validation", "test")
    }
    assert (parts["train"]["id"] != parts["train"]["source_id"]).any()
    for name in ("validation", "test"):
        assert (parts[name]["id"] == parts[name]["source_id"]).all()
        assert not set(parts[name]["group"]) & set(parts["train"]["group"])


def test_each_stage_says_what_it_spent_before_its_own_work(done: Project) -> None:
    for stage in STAGES:
        timing = load(done, f"{stage}/tiny/timing.json")
        assert 0 < timing["seconds_before_work"] < 60
        assert timing["seconds_of_work"] > 0


def test_repeating_register_repeats_its_decision_and_makes_no_second_version(done: Project) -> None:
    before = load(done, "register/tiny/decision.json")
    done.stage("register")
    assert load(done, "register/tiny/decision.json") == before
    assert len(client(done).search_model_versions("name = 'tiny'")) == 1


def test_a_copy_that_became_equal_to_a_held_out_row_is_dropped_and_counted(
    project: Project,
) -> None:
    """Each text occurs in both orders of its two words, and every copy swaps them.

    So each copy says what another row says.
    """
    words = {label: [f"{label}{c}" for c in "abcdefg"] for label in ("good", "bad", "fair")}
    pairs = [(a, b, label) for label, of in words.items() for a in of for b in of if a != b]
    path = project.root / "data/raw/reviews/train.csv"
    path.unlink()
    write_csv(path, [{"text": f"{a} {b}", "label": label} for a, b, label in pairs])
    swap = {
        "share": 1.0,
        "copies": 1,
        "transforms": [{"name": "random_word", "action": "swap", "words": 0.3}],
    }
    project.params(lambda p: p["tasks"]["tiny"]["augment"].update(swap))
    for stage in ("validate", "augment", "split"):
        project.stage(stage)
    parts = {
        name: pd.read_parquet(project.root / f"data/split/tiny/{name}.parquet")
        for name in ("train", "validation", "test")
    }
    held_out = set(parts["validation"]["x"]) | set(parts["test"]["x"])
    dropped = load(project, "split/tiny/leakage.json")["copies_equal_to_held_out_rows"]
    copies = pd.read_parquet(project.root / "data/augment/tiny/manifest.parquet").query(
        "id != source_id"
    )
    assert set(copies["source_id"]) <= set(parts["train"]["id"]), "no held-out row is altered"
    assert sorted(copies.loc[copies["x"].str.lower().isin(held_out), "id"]) == dropped["ids"]
    assert dropped["rows"] == len(dropped["ids"]) > 10
    assert not set(parts["train"]["x"].str.lower()) & held_out
    assert len(parts["train"]) == len(pairs) - len(held_out) + len(copies) - dropped["rows"]
    assert not set(parts["train"]["content"]) & (
        set(parts["validation"]["content"]) | set(parts["test"]["content"])
    )


@pytest.mark.slow
def test_a_worse_candidate_is_judged_against_the_champion_and_going_back_judges_anew(
    done: Project, tmp_path: Path
) -> None:
    """The champion is scored anew on today's rows.

    DVC's run cache must not replay an old decision.
    """
    project = done.copy(tmp_path / "project")
    project.params(
        lambda p: p["tasks"]["tiny"]["finetune"].update(
            learning_rate=1e-9, head_learning_rate=1e-9, epochs=1
        )
    )
    project.repro()
    decision = load(project, "register/tiny/decision.json")
    assert (decision["outcome"], decision["against"], decision["candidate"]["version"]) == (
        "reject",
        "version_1",
        2,
    )
    assert decision["drift"]["against"] == "version_1" and {
        of["measure"] for of in decision["drift"]["measures"]
    } >= {"labels", "characters", "script"}
    assert decision["verdicts"][0]["facts"]["use"] == 2
    versus = decision["verdicts"][0]["facts"]["against"]["version_1"]
    assert versus["baseline"] > versus["candidate"]
    assert client(project).get_model_version_by_alias("tiny", "champion").version == 1

    project.params(
        lambda p: p["tasks"]["tiny"]["finetune"].update(
            learning_rate=0.01, head_learning_rate=0.01, epochs=3
        )
    )
    output = project.repro().stdout
    assert "Running stage 'register@tiny'" in output
    decision = load(project, "register/tiny/decision.json")
    assert (decision["candidate"]["version"], decision["verdicts"][0]["facts"]["use"]) == (1, 1)


def test_a_champion_whose_files_were_written_over_is_not_loaded_and_the_candidate_meets_the_cheap_baselines(  # noqa: E501
    done: Project, tmp_path: Path
) -> None:
    project = done.copy(tmp_path / "project")
    weights = next((project.root / "mlruns").rglob("model.safetensors"))
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(seed=5))
    for stage in ("finetune", "export", "evaluate"):
        project.stage(stage)
    said = project.stage("register").stdout
    decision = load(project, "register/tiny/decision.json")
    assert (decision["outcome"], decision["against"]) == ("promote", "baselines")
    assert "version_1 cannot be asked" in decision["damaged"]
    assert f"{decision['damaged']}, so it was judged against the cheap baselines" in said
    assert "cannot be asked" in (project.root / "data/register/tiny/model_card.md").read_text()


def test_a_flipped_bit_stops_at_the_next_stage(done: Project) -> None:
    path = done.root / "data/split/tiny/test.parquet"
    kept = path.read_bytes()
    mode = path.stat().st_mode
    path.chmod(0o644)
    try:
        path.write_bytes(kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:])
        failed = done.stage("evaluate", ok=False)
        assert failed.returncode == 2
        assert failed.stderr.startswith(
            "refit: data/split/tiny/test.parquet: not the bytes that its receipt signed"
        )
    finally:
        path.write_bytes(kept)
        path.chmod(mode)


LORA = {"name": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["query", "value"],
        "rslora": False, "dora": False}  # fmt: skip
MOVED = {  # what moves in a BERT, by the beginnings of its names; the head is not among them
    "linear_probe": ({"name": "linear_probe"}, ()),
    "full": (
        {"name": "full", "embeddings": False},
        (
            "embeddings.position",
            "embeddings.token_type",
            "embeddings.LayerNorm",
            "encoder",
            "pooler",
        ),
    ),
    "freeze": ({"name": "freeze", "layers": 1}, ("encoder.layer.0.", "pooler")),
    "lora": (
        LORA,
        (
            "encoder.layer.0.attention.self.query.weight",
            "encoder.layer.0.attention.self.value.weight",
        ),
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_tune_moves_what_it_says_and_nothing_else(
    done: Project, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saved model is a plain one, too, with the validation metrics measured while it learned.

    A head that stays as it began learns from validation too: it is the baseline itself.
    """
    from safetensors.torch import load_file

    project = done.copy(tmp_path / "project")
    root = project.root
    tune, moving = MOVED[name]
    head = {"name": "probe", "c": [0.1, 1.0]} if name == "linear_probe" else {"name": "random"}
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(tune=tune, head=head))
    project.stage("finetune")
    before = load_file(root / "data/raw/tiny_bert/model.safetensors")
    after = load_file(root / "data/finetune/tiny/model/model.safetensors")
    assert set(after) == {f"bert.{n}" for n in before} | {"classifier.weight", "classifier.bias"}
    moved = {n for n, tensor in before.items() if not tensor.equal(after[f"bert.{n}"])}
    assert moved == {n for n in before if n.startswith(moving)} if moving else not moved
    monkeypatch.chdir(root)
    if moving:
        assert load(project, "finetune/tiny/metrics.json")["macro_f1"] == pytest.approx(
            measured_on_validation(), abs=1e-9
        )
    else:
        project.params(
            lambda p: p["tasks"]["tiny"]["evaluate"].update(
                baselines=[{"name": "probe_logistic", "c": [0.1, 1.0], "max_rows": 20000}]
            )
        )
        project.through("export", "evaluate")
        predictions = pd.read_parquet("data/evaluate/tiny/predictions.parquet")
        assert predictions["candidate"].tolist() == predictions["probe_logistic"].tolist()
        assert predictions["candidate"].nunique() > 1


def test_parts_that_the_data_set_gives_are_honoured_and_repeats_are_dropped_from_train(
    project: Project,
) -> None:
    table = rows(240)
    test = [*rows(60, seed=2), table[0]]  # one official test row is in train too
    write_csv(project.root / "data/raw/reviews/test.csv", test)
    files = [
        {"path": "train.csv", "part": "train", "rows": None},
        {"path": "test.csv", "part": "test", "rows": None},
    ]
    project.params(lambda p: p["tasks"]["tiny"]["data"]["layout"].update(files=files))
    for stage in ("validate", "augment", "split"):
        project.stage(stage)
    leakage = load(project, "split/tiny/leakage.json")
    assert leakage["parts"]["test"]["rows"] == 61
    assert leakage["repeats_of_held_out_rows"] == {"rows": 1, "origins": ["train.csv:2"]}


def test_the_hash_of_the_lineage_is_that_of_the_excerpt(done: Project) -> None:
    import hashlib

    excerpt = load(done, "register/tiny/dvc_lock.json")
    decision = load(done, "register/tiny/decision.json")
    assert (
        hashlib.sha256(json.dumps(excerpt, sort_keys=True).encode()).hexdigest()
        == decision["lineage"]["dvc_lock_sha256"]
    )
    assert set(excerpt) == {f"{stage}@tiny" for stage in STAGES[:-1]}


def test_a_withdrawn_version_is_refused_however_good_it_is_until_a_person_promotes_it(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = done.copy(tmp_path / "project")
    client(project).set_model_version_tag(
        "tiny", "1", "refit.withdrawn", "2026-01-01 by a person: it swears"
    )
    client(project).delete_registered_model_alias("tiny", "champion")
    project.stage("register")
    decision = load(project, "register/tiny/decision.json")
    assert decision["outcome"] == "reject"
    assert [verdict["outcome"] for verdict in decision["verdicts"]] == [
        "promote",
        "promote",
        "reject",
    ]
    assert (
        decision["verdicts"][-1]["reason"]
        == "version 1 was withdrawn 2026-01-01 by a person: it swears; "
        "only `refit promote` brings it back"
    )
    assert "champion" not in client(project).get_registered_model("tiny").aliases


def test_a_base_model_that_lacks_weights_or_a_tokenizer_is_refused(
    done: Project, tmp_path: Path
) -> None:
    """transformers would silently add both: random weights, and a tokenizer of five tokens."""
    from safetensors.torch import load_file, save_file

    project = done.copy(tmp_path / "project")
    base = project.root / "data/raw/tiny_bert"
    weights = load_file(base / "model.safetensors")
    save_file(
        {f"0.auto_model.{name}": tensor for name, tensor in weights.items()},
        base / "model.safetensors",
        {"format": "pt"},
    )
    failed = project.stage("finetune", ok=False)
    assert (failed.returncode, failed.stderr.count("refit: ")) == (2, 1)
    assert "weights are missing or misshapen" in failed.stderr

    save_file(weights, base / "model.safetensors", {"format": "pt"})
    (base / "tokenizer.json").unlink()
    failed = project.stage("finetune", ok=False)
    assert (failed.returncode, failed.stderr.count("refit: ")) == (2, 1)
    assert "has no tokenizer" in failed.stderr


def test_a_learning_rate_that_diverges_is_said_in_one_line(done: Project, tmp_path: Path) -> None:
    project = done.copy(tmp_path / "project").forget("finetune", "export", "evaluate", "register")
    project.params(lambda p: p["tasks"]["tiny"]["finetune"].update(learning_rate=1e30))
    failed = project.stage("finetune", ok=False)
    assert (failed.returncode, failed.stderr.count("refit: ")) == (2, 1), failed.stderr[-2000:]
    assert "lower learning_rate" in failed.stderr
    assert not (project.root / "data/finetune/tiny").exists()


def test_without_git_everything_runs_and_the_lineage_says_no_commit(
    done: Project, tmp_path: Path
) -> None:
    unpacked = done.copy(tmp_path / "unpacked").forget("register")
    shutil.rmtree(unpacked.root / ".git")
    unpacked.run("dvc", "config", "--local", "core.no_scm", "true")
    alone = {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    assert "register@tiny" in unpacked.run("dvc", "status", **alone).stdout
    unpacked.stage("register", **alone)
    assert load(unpacked, "register/tiny/decision.json")["lineage"]["git_commit"] == "no commit"
    assert load(unpacked, "register/tiny/decision.json")["outcome"] == "promote"
