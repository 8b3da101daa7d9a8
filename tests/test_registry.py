"""The registry: the better version is champion whoever comes last.

Every move is recorded, and a withdrawn version stays away.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.registry import TEXTS, judge, races, rebuild, register, verdict
from flows import servers
from stages.commands.history import history
from stages.commands.impact import impact
from stages.commands.lineage import lineage
from stages.commands.promote import promote
from stages.commands.rollback import rollback
from stages.contract import store as contract_store
from stages.contract.errors import DataError, ModelError, RefitError, RegistryError
from stages.project import hashes
from stages.registry import decisions, registered
from tests.conftest import Project, rows, write_csv


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store in which nothing is registered: to make one takes seconds."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_registered_models()
    return folder / "mlflow.db"


@pytest.fixture
def store(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(empty, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def client() -> Any:
    import mlflow

    return mlflow.MlflowClient()


@pytest.fixture(scope="module")
def made(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store in which three versions of `tiny` were champion in turn."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copy(empty, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        three(folder)
    return folder


@pytest.fixture
def third(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of `made`, which is the current folder."""
    shutil.copytree(made, tmp_path / "store")
    monkeypatch.chdir(tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store/mlflow.db")
    return tmp_path / "store"


def three(folder: Path, **tags: str) -> None:
    """Register three versions of `tiny`, each better than the last; make each champion in turn."""
    for number, score in enumerate((0.5, 0.7, 0.9), 1):
        register("tiny", score, folder / "made", **tags)
        judge("tiny", number)


def champion() -> int | None:
    found = registered.champion("tiny")
    return found.number if found else None


def moves() -> list[tuple[int | None, int | None]]:
    return [(move.before, move.after) for move in decisions.history("tiny")]


def test_registering_the_same_bytes_again_makes_no_second_version(store: Path) -> None:
    first, again, other = (
        register("tiny", score, store / "made").number for score in (0.5, 0.5, 0.7)
    )
    assert (first, again, other) == (1, 1, 2)
    # Not even where something else about it is new, such as the commit.
    assert register("tiny", 0.5, store / "made", commit="another").number == 1
    assert len(client().search_runs([client().get_experiment_by_name("tiny").experiment_id])) == 2


def test_of_two_promotions_at_once_the_better_version_stays_champion(store: Path) -> None:
    """Two processes both read the champion before either decides.

    Without the second reading the last one would win.
    """
    found = races(4, store / "made")
    assert (
        found["better_version_is_champion"],
        found["processes_ended_cleanly"],
        found["moves_outside_refit"],
    ) == (4, 2, 0)
    assert found["judged_anew"] >= 4


def test_a_verdict_about_another_champion_writes_nothing(store: Path) -> None:
    for score in (0.5, 0.7, 0.9):
        register("tiny", score, store / "made")
    judge("tiny", 1)
    seen = registered.champion("tiny")
    judge("tiny", 2)
    assert not decisions.decide(verdict(registered.version("tiny", "3"), seen, 2, "promote"))
    assert "refit.outcome" not in registered.version("tiny", "3").tags
    assert champion() == 2
    assert len(decisions.uses("tiny")) == 2


def test_every_move_says_who_when_why_from_and_to(third: Path) -> None:
    found = history("tiny")
    assert [(move["from"], move["to"], move["why"]) for move in found.moves] == [
        (None, 1, "it beats baselines"), (1, 2, "it beats version_1"), (2, 3, "it beats version_2"),
    ]  # fmt: skip
    assert found.champion == 3
    assert all("@" in move["who"] and move["when"].endswith("+00:00") for move in found.moves)
    tags = client().get_registered_model("tiny").tags
    move = found.moves[1]
    assert tags["refit.move.000002"] == (
        f"{move['when']}: from version 1 to 2, by {move['who']}: it beats version_1"
    )
    assert tags["refit.move.000001"].startswith(f"{found.moves[0]['when']}: from version none to 1")


def test_moves_and_uses_that_an_earlier_version_wrote_as_json_are_read(third: Path) -> None:
    before, used = history("tiny").moves, decisions.uses("tiny")
    tags = client().get_registered_model("tiny").tags
    for tag, line in tags.items():
        if tag.startswith(decisions.MOVE):
            document: dict[str, Any] = before[int(tag[-6:]) - 1]
        elif tag.startswith(decisions.USE):
            words = line.replace(",", "").split()
            names = ("candidate", "against", "rows", "run_id")
            document = dict(zip(names, (words[1], words[3], words[7], words[9]), strict=True))
        else:
            continue
        client().set_registered_model_tag("tiny", tag, json.dumps(document))
    assert history("tiny").moves == before
    assert decisions.uses("tiny") == used


def test_a_model_is_found_among_any_number(third: Path) -> None:
    """MLflow lists a hundred at a time, by their names."""
    for i in range(101):
        client().create_registered_model(f"a{i:03}")
    assert len(history("tiny").moves) == 3
    with pytest.raises(
        RegistryError,
        match=r"nothing: the registry has no model of this name; it has: a000, a001, .*, a099$",
    ):
        history("nothing")


def test_judging_the_champion_again_is_no_move_and_no_use(third: Path) -> None:
    register("tiny", 0.6, third / "made")
    for _ in range(2):
        judge("tiny", 4)
    assert moves() == [(None, 1), (1, 2), (2, 3)]
    assert [
        (use.against == registered.version("tiny", "3").sha256, sorted(use.rows))
        for use in decisions.uses("tiny")
    ][-1] == (True, ["r1", "r2"])
    assert len(decisions.uses("tiny")) == 4


def test_a_verdict_that_knows_nothing_of_a_use_made_meanwhile_is_not_recorded(store: Path) -> None:
    first, second = (register("tiny", score, store / "made") for score in (0.5, 0.7))
    known = len(decisions.uses("tiny"))
    assert decisions.decide(verdict(first, None, known, "reject"))
    assert not decisions.decide(verdict(second, None, known, "promote"))
    assert champion() is None
    assert decisions.decide(verdict(second, None, known + 1, "promote"))


def test_the_same_candidate_on_other_rows_is_another_use_and_lost_ids_are_no_fresh_rows(
    store: Path,
) -> None:
    version = register("tiny", 0.5, store / "made")
    for ids in (("a", "b"), ("b", "a"), ("b", "c")):
        assert decisions.decide(verdict(version, None, len(decisions.uses("tiny")), "reject", ids))
    assert [sorted(use.rows) for use in decisions.uses("tiny")] == [["a", "b"], ["b", "c"]]
    assert {(use.candidate, use.against) for use in decisions.uses("tiny")} == {
        (version.sha256, "baselines")
    }
    for path in (store / "mlruns").rglob("ledger/*.json"):
        path.write_text('["z"]')
    with pytest.raises(RegistryError, match=r"ledger/\w+.json of run \w+ is gone or was changed"):
        decisions.uses("tiny")


@pytest.mark.parametrize("by_hand", [2, None])
def test_a_move_made_in_mlflow_itself_is_found_and_recorded(
    third: Path, by_hand: int | None
) -> None:
    if by_hand:
        client().set_registered_model_alias("tiny", contract_store.ALIAS, str(by_hand))
    else:
        client().delete_registered_model_alias("tiny", contract_store.ALIAS)
    last = history("tiny").moves[-1]
    assert (last["from"], last["to"], last["who"]) == (3, by_hand, "unknown, outside Refit")
    assert history("tiny").moves[-1] == last
    assert len(history("tiny").moves) == 4


def test_a_move_made_in_mlflow_itself_is_found_by_register_too(third: Path) -> None:
    client().set_registered_model_alias("tiny", contract_store.ALIAS, "1")
    register("tiny", 0.8, third / "made")
    judge("tiny", 4)
    assert moves()[-2:] == [(3, 1), (1, 4)]


def test_rollback_goes_to_the_champion_before_and_past_those_that_were_withdrawn(
    third: Path,
) -> None:
    done = rollback("tiny", None, "it swears")
    assert (done.move["from"], done.move["to"], done.move["why"], champion()) == (
        3,
        2,
        "it swears",
        2,
    )
    assert (
        registered.version("tiny", "3").withdrawn
        == f"{done.move['when']} by {done.move['who']}: it swears"
    )
    rollback("tiny", None, "so does this")
    assert champion() == 1
    with pytest.raises(
        RegistryError, match="no earlier champion to go back to; `refit promote tiny N`"
    ):
        rollback("tiny", None, "again")


def test_rollback_to_a_version_names_what_is_wrong_with_it(third: Path) -> None:
    register("tiny", 0.1, third / "made")
    for to, fact in (
        (4, "version 4 has never been champion"),
        (3, "version 3 is the champion already"),
        (9, "has no version 9; it has: 1, 2, 3, 4"),
    ):
        with pytest.raises(RegistryError, match=fact):
            rollback("tiny", to, "x")
    rollback("tiny", 1, "x")
    with pytest.raises(RegistryError, match="version 3 was withdrawn 2"):
        rollback("tiny", 3, "x")
    assert champion() == 1


def test_a_withdrawn_version_never_returns_by_itself_and_promote_brings_it_back(
    third: Path,
) -> None:
    rollback("tiny", None, "it swears")
    assert register("tiny", 0.9, third / "made").number == 3
    judge("tiny", 3)
    assert (champion(), registered.version("tiny", "3").tags["refit.outcome"]) == (2, "reject")
    move = promote("tiny", 3, "it was the other one").move
    assert (champion(), registered.version("tiny", "3").withdrawn) == (3, "")
    assert (
        move["why"].startswith("it was the other one (brought back: was withdrawn 2")
        and "it swears" in move["why"]
    )


def test_a_version_withdrawn_while_it_was_judged_is_judged_anew(third: Path) -> None:
    seen, at = registered.version("tiny", "3"), registered.version("tiny", "2")
    rollback("tiny", None, "it swears")
    assert not decisions.decide(verdict(seen, at, len(decisions.uses("tiny")), "promote"))
    assert champion() == 2


def test_a_move_by_hand_of_another_champion_than_the_one_seen_is_not_made(third: Path) -> None:
    before = moves()
    assert (
        decisions.move(
            registered.version("tiny", "1"), 2, "the champion was seen to be 2", withdraw=True
        )
        is None
    )
    assert (champion(), moves(), registered.version("tiny", "2").withdrawn) == (3, before, "")


def test_a_manual_promotion_stands_until_a_candidate_beats_it(third: Path) -> None:
    promote("tiny", 1, "the others are too slow")
    judge("tiny", 1)
    assert champion() == 1
    with pytest.raises(RegistryError, match="version 1 is the champion already"):
        promote("tiny", 1, "again")
    with pytest.raises(RegistryError, match="say why"):
        promote("tiny", 2, " ")
    register("tiny", 0.6, third / "made")
    judge("tiny", 4)
    assert champion() == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"),
        lambda path: path.unlink(),
        lambda path: shutil.rmtree(path.parents[1]),
    ],
)
def test_no_one_goes_back_to_a_damaged_version(
    third: Path, damage: Callable[[Path], object]
) -> None:
    run = client().get_model_version("tiny", "2")
    damage(
        next(
            path
            for path in (third / "mlruns").rglob("model.safetensors")
            if b"0.7" in path.read_bytes()
        )
    )
    for call in (lambda: rollback("tiny", None, "x"), lambda: promote("tiny", 2, "x")):
        with pytest.raises(ModelError, match="tiny@2: the"):
            call()
    assert (champion(), run.version) == (3, 2)


BAD = [
    "a/b",
    "../tiny",
    "tiny'",
    "Tiny",
    "a\nb",
    "\x1b[31m",
    "",
    "tiny@0",
    "tiny@x",
    "tiny@1@2",
    "x" * 61,
]


CALLS: list[Callable[[str], object]] = [
    history,
    lambda name: rollback(name, None, "x"),
    lambda name: promote(name, 1, "x"),
    lineage,
]


def test_a_store_that_was_cut_off_while_it_was_made_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's migrations are interrupted after the first tables, as by a kill.

    They cannot go on from there.
    """
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    def cut_off(engine: Any) -> None:
        Base.metadata.create_all(engine)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with monkeypatch.context() as patched:
        patched.setattr(utils, "_initialize_tables", cut_off)
        with pytest.raises(KeyboardInterrupt), contract_store.opened():
            pass
    assert not Path("mlflow.db").exists() and Path(".mlflow.db.partial").exists()
    with contract_store.opened() as client:
        assert list(client.search_registered_models()) == []
    assert Path("mlflow.db").is_file() and not Path(".mlflow.db.partial").exists()


def test_a_name_that_is_none_is_said_in_one_line(store: Path) -> None:
    for call, name in product(CALLS, BAD):
        with pytest.raises(RegistryError) as error:
            call(name)
        assert str(error.value).isprintable(), name
        assert error.value.exit_code == 2


def test_a_model_that_is_not_there_names_those_that_are(third: Path) -> None:
    for call in CALLS:
        with pytest.raises(
            RegistryError, match="nobody: the registry has no model of this name; it has: tiny"
        ):
            call("nobody")


def test_a_move_that_a_person_edited_is_said(third: Path) -> None:
    client().set_registered_model_tag("tiny", "refit.move.000002", "?")
    with pytest.raises(RegistryError, match=r"tag refit.move.000002 is not what Refit wrote"):
        history("tiny")


def test_impact_finds_every_version_by_a_folder_a_file_and_a_copy(store: Path) -> None:
    for name in ("a", "b"):
        (store / TEXTS / name).parent.mkdir(parents=True, exist_ok=True)
        (store / TEXTS / name).write_text(name)
    shutil.copytree(store / TEXTS, store / "copy")
    three(store, **{"refit.data_md5": hashes.of(TEXTS)[0]})
    register("other", 0.5, store / "made", **{"refit.data_md5": "0" * 32 + ".dir"})
    found = impact(TEXTS)
    assert [of.version for of in found.found] == ["tiny@1", "tiny@2", "tiny@3"]
    assert [of.champion for of in found.found] == [False, False, True]
    assert found.untold == {"0" * 32 + ".dir": ["other@1"]}
    assert impact(Path("copy")).found == found.found
    (store / "copy/a").write_text("b")
    assert impact(Path("copy")).found == []
    with pytest.raises(DataError, match="gone: is not there"):
        impact(Path("gone"))
    register("edited", 0.5, store / "made", **{"refit.data_md5": "../../outside"})
    with pytest.raises(DataError, match="outside: is no hash of DVC's"):
        impact(TEXTS)


# ---- in a project, with DVC's own cache and hashes -----------------------------------------------


@pytest.fixture
def here(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = done.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    return project


def test_lineage_tells_all_and_finds_it_whole(here: Project) -> None:
    found = lineage("tiny@champion")
    assert found.damaged == []
    assert found.commit == here.run("git", "rev-parse", "HEAD").stdout.strip()
    data = {of.path: of for of in found.data}
    assert data.keys() == {
        "data/raw/reviews",
        "data/raw/tiny_bert",
        *(f"data/split/tiny/{part}.parquet" for part in ("train", "validation", "test")),
    }
    assert all(of.places == ["workspace", "cache"] for of in data.values())
    assert data["data/raw/reviews"].md5 in (here.root / "data/raw/reviews.dvc").read_text()
    assert found.params["finetune"]["learning_rate"] == 0.01
    assert found.environment["torch"]
    assert (
        found.expectations and found.expectations["met"] > 5 and found.expectations["failed"] == 0
    )
    assert found.decision and found.decision["outcome"] == "promote"
    assert set(found.lock) == {
        f"{stage}@tiny"
        for stage in ("validate", "augment", "split", "finetune", "export", "evaluate")
    }


PLACES = {
    "data/raw/reviews/train.csv": "data/raw/reviews: its bytes are not those of",
    "data/split/tiny/test.parquet": "test.parquet: its bytes are not those of",
    ".dvc/cache/files/md5/*/*.dir": ".dir: its bytes are not those of its name",
    "mlruns/**/model.safetensors": "tiny@1: the model's bytes are not those that were registered",
    "mlruns/**/model.json": "tiny@1: the model's bytes are not those that were registered",
    "mlruns/**/lineage/dvc_lock.json": "lineage/dvc_lock.json is not what was logged",
    "mlruns/**/decisions/*/decision.json": "decision.json is not what was logged",
}


def test_lineage_reports_one_flipped_byte_and_what_is_gone(here: Project) -> None:
    tracked = (here.root / "data/raw/reviews.dvc").read_text()
    for pattern, fact in PLACES.items():
        path = next(
            p
            for p in here.root.glob(pattern)
            if p.suffix != ".dir" or p.parent.name + p.name in tracked
        )
        kept, mode = path.read_bytes(), path.stat().st_mode
        path.chmod(0o644)
        at = len(kept) // 2
        path.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        assert any(fact in line for line in lineage("tiny").damaged), pattern
        path.write_bytes(kept)
        path.chmod(mode)
    next(here.root.glob("mlruns/**/lineage/dvc_lock.json")).unlink()
    assert lineage("tiny").damaged == [
        "tiny@1: lineage/dvc_lock.json is gone from the run that it was logged with"
    ]


def test_data_that_went_on_can_be_restored_from_the_cache_and_else_from_nowhere(
    here: Project,
) -> None:
    write_csv(here.root / "data/raw/reviews/train.csv", rows(100))
    here.run("dvc", "add", "-q", "data/raw/reviews")
    of = next(of for of in lineage("tiny").data if of.path == "data/raw/reviews")
    assert of.places == ["cache"]
    shutil.rmtree(here.root / ".dvc/cache")
    found = lineage("tiny")
    assert next(of for of in found.data if of.path == "data/raw/reviews").places == []
    assert found.damaged == []
    here.run("dvc", "remote", "add", "-d", "far", "/nowhere")
    assert next(of for of in lineage("tiny").data if of.path == "data/raw/reviews").places == [
        "a remote, which was not asked"
    ]


def test_impact_knows_the_files_of_data_as_dvc_hashes_them(here: Project, tmp_path: Path) -> None:
    shutil.copy(here.root / "data/raw/reviews/train.csv", tmp_path / "renamed.csv")
    write_csv(here.root / "data/raw/reviews/train.csv", rows(100))
    assert [of.version for of in impact(tmp_path / "renamed.csv").found] == ["tiny@1"]
    assert impact(here.root / "data/raw/reviews/train.csv").found == []
    here.run("dvc", "checkout", "-q", "--force", "data/raw/reviews")
    assert [
        (of.version, of.champion, of.source) for of in impact(Path("data/raw/reviews")).found
    ] == [("tiny@1", True, "data/raw/reviews")]


def test_compare_gives_the_gate_s_evidence_on_test_rows_and_on_any_table(
    here: Project, tmp_path: Path
) -> None:
    from stages.commands.compare import compare

    here.params(
        lambda p: p["tasks"]["tiny"]["finetune"].update(
            learning_rate=1e-9, head_learning_rate=1e-9, epochs=1
        )
    )
    for stage in ("finetune", "export", "evaluate"):
        here.stage(stage)
    here.run("dvc", "commit", "-q", "-f", "finetune@tiny", "export@tiny", "evaluate@tiny")
    here.stage("register")
    said = json.loads((here.root / "data/register/tiny/decision.json").read_text())["verdicts"][0]
    said = said["facts"]["against"]["version_1"]
    found = compare("tiny@2", "tiny@champion", None)
    assert (found.evidence.difference, found.evidence.mcnemar_p) == pytest.approx(
        (said["difference"], said["mcnemar_p"])
    )
    # That was the second use of these rows, at a lower level.
    assert found.evidence.lower > said["lower"]
    table = [{"text": row["text"], "label": row["label"]} for row in rows(40, seed=9)]
    write_csv(tmp_path / "new.csv", [*table, {"text": "good", "label": ""}])
    found = compare("tiny@1", "tiny@2", tmp_path / "new.csv")
    assert (found.rows, found.left_out) == (40, 1)
    assert found.evidence.difference > 0
    write_csv(tmp_path / "bare.csv", [{"text": "good", "other": "a"}])
    with pytest.raises(RefitError, match="has no column 'label'"):
        compare("tiny@1", "tiny@2", tmp_path / "bare.csv")


@pytest.mark.slow
def test_the_commands_say_one_line_and_give_json(here: Project) -> None:
    def refit(*words: str) -> "subprocess.CompletedProcess[str]":
        return here.run(str(Path(sys.executable).with_name("refit")), *words, ok=False)

    assert json.loads(refit("history", "tiny", "--json").stdout)["moves"][0]["to"] == 1
    assert "sha256" in refit("lineage", "tiny@1").stdout
    (here.root / "data/raw/reviews/train.csv").write_text("changed")
    found = refit("lineage", "tiny")
    assert found.returncode == 2 and "WRONG" in found.stdout
    for words in (
        ("rollback", "tiny"),
        ("promote", "tiny", "9", "--why", "x"),
        ("history", "a/b"),
        ("compare", "tiny@1", "tiny@9"),
    ):
        done = refit(*words)
        assert (done.returncode, done.stderr.count("\n"), done.stderr[:7]) == (2, 1, "refit: "), (
            done.stderr
        )


@pytest.mark.slow
def test_a_champion_made_anew_in_a_clean_clone_predicts_the_same(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    found = rebuild("tiny@champion", tmp_path)
    assert found["same_bytes"]
    assert found["same_labels"] == found["same_confidences"] == found["test_rows"] > 50


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Start MLflow's server as `make up` does, with all its hardening, and return its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        server = servers.mlflow(port)
    log = (folder / "log").open("w")
    with (
        log,
        subprocess.Popen(
            server.command,
            cwd=folder,
            env=os.environ | server.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            for _ in range(600):
                with contextlib.suppress(requests.RequestException):
                    if requests.get(server.url + server.health, timeout=1).ok:
                        break
                time.sleep(0.1)
            yield server.url
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def server(hardened: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name that server as MLFLOW_TRACKING_URI."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", hardened)
    monkeypatch.chdir(tmp_path)
    return hardened


def test_a_server_over_http_keeps_what_a_file_keeps(server: str, tmp_path: Path) -> None:
    three(tmp_path / "made")
    assert moves() == [(None, 1), (1, 2), (2, 3)]
    assert lineage("tiny@2").damaged == []
    rollback("tiny", None, "it was slow")
    assert champion() == 2
    judge("tiny", 3)
    assert champion() == 2, "a withdrawn version does not return by itself"
    client().set_registered_model_alias("tiny", "champion", "1")
    assert [move.who for move in decisions.history("tiny")][-1] == decisions.OUTSIDE
    client().log_text(registered.version("tiny", "1").run_id, "another", "lineage/provenance.json")
    assert [bool(lineage(f"tiny@{number}").damaged) for number in (1, 2, 3)] == [True, False, False]


@pytest.mark.slow
def test_a_secret_in_the_address_stays_secret_and_the_server_of_make_up_takes_what_register_makes(
    hardened: str, finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.root / "data/register/tiny")
    write_csv(project.root / "new.csv", rows(30))
    address = {"MLFLOW_TRACKING_URI": hardened.replace("//", "//user:canary-7f3@")}
    said = [
        project.stage("register", **address),
        *(
            project.run("refit", *words, **address)
            for words in (
                ["status"],
                ["check"],
                ["history", "tiny"],
                ["predict", "tiny", "new.csv"],
                ["lineage", "tiny"],
            )
        ),
    ]
    # The test before this one left versions that are no models of Refit's.
    number = said[0].stdout.partition("version ")[2].partition(":")[0]
    assert f"version {number}: promote" in said[0].stdout
    assert f"30 rows by tiny@{number}" in said[4].stderr
    assert not [of.args for of in said if "canary" in of.stdout + of.stderr]
    assert not [
        path
        for path in project.root.rglob("*")
        if path.is_file() and b"canary-7f3" in path.read_bytes()
    ]
    assert requests.get(f"{hardened}/api/2.0/mlflow/registered-models/get?name=tiny", timeout=10).ok
    assert (
        "canary"
        not in requests.post(
            f"{hardened}/api/2.0/mlflow/runs/search",
            json={"experiment_ids": [str(i) for i in range(9)]},
            timeout=10,
        ).text
    )


class Lossy(ThreadingHTTPServer):
    """Hands every request on to a server, and loses the answer to one that writes."""

    def __init__(self, address: str, lost: int) -> None:
        self.address, self.lost, self.writes = address, lost, 0
        super().__init__(("127.0.0.1", 0), Losing)


class Losing(BaseHTTPRequestHandler):
    def answer(self) -> None:
        assert isinstance(self.server, Lossy)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {
            name: of
            for name, of in self.headers.items()
            if name.lower() not in ("host", "accept-encoding")
        }
        said = requests.request(
            self.command, self.server.address + self.path, data=body, headers=headers, timeout=30
        )
        if self.command != "GET" and "search" not in self.path:
            self.server.writes += 1
            if self.server.writes == self.server.lost:
                self.close_connection = True
                return
        self.send_response(said.status_code)
        for name in ("Content-Type", "Content-Disposition"):
            if name in said.headers:
                self.send_header(name, said.headers[name])
        self.send_header("Content-Length", str(len(said.content)))
        self.end_headers()
        self.wfile.write(said.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_a_lost_answer_is_not_a_second_deed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writing request of a registration and its judgement loses its answer, in turn.

    There is one version, one run, one model, one move.
    """
    monkeypatch.setattr(contract_store, "PAUSE", 0.01)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    lost = 0
    while True:
        lost += 1
        name = f"lost_{lost}"
        with Lossy(server, lost) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{proxy.server_port}")
            judge(name, register(name, 0.5, tmp_path / "made").number)
            proxy.shutdown()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        asked = client()
        experiment = asked.get_experiment_by_name(name).experiment_id
        (run,), (_,) = asked.search_runs([experiment]), asked.search_logged_models([experiment])
        assert (
            run.info.status,
            len(run.inputs.dataset_inputs),
            len(asked.get_metric_history(run.info.run_id, "loss")),
        ) == ("FINISHED", 1, 1), lost
        assert [of.number for of in registered.versions(name)] == [1], lost
        assert [(move.before, move.after) for move in decisions.history(name)] == [(None, 1)], lost
        assert len(decisions.uses(name)) == 1, lost
        if proxy.writes < lost:
            break
    assert lost > 20
