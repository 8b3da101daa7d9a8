"""The contract: settings, manifest, receipts, escapes, and the runner of every stage."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.contract import escape, location, manifest, receipts, runner, settings, store
from stages.contract.errors import (
    ManifestError,
    ParamsError,
    ReceiptError,
    RegistryError,
    UnreachableError,
)
from stages.contract.runner import Job
from stages.project import lineage
from tests.conftest import ROOT
from tests.test_preflight import PRIVATE, namespaces

# ---- settings ----


def document() -> dict[str, Any]:
    return YAML(typ="safe").load(ROOT / "params.yaml")


def refused(folder: Path, text: str | dict[str, Any]) -> str:
    """Return what load says of a document that it refuses."""
    path = folder / "params.yaml"
    if isinstance(text, str):
        path.write_text(text)
    else:
        YAML().dump(text, path)
    with pytest.raises(ParamsError) as caught:
        settings.load(path)
    return str(caught.value)


def test_all_mistakes_are_told_at_once_each_with_its_path(tmp_path: Path) -> None:
    wrong = document()
    task = wrong["tasks"]["questions"]
    task["finetune"]["learning_rte"] = 1e-5
    task["finetune"]["epochs"] = "four"
    task["finetune"]["learning_rate"] = float("nan")
    task["finetune"]["tune"] = {"name": "grow"}
    task["augment"]["transforms"][0]["words"] = 1.5
    task["data"]["layout"]["files"][0]["path"] = "../secret.csv"
    task["evaluate"]["baselines"] = [{"ngrams": [1, 2]}]
    del task["split"]["seed"]
    wrong["tasks"]["Bad Key"] = document()["tasks"]["questions"]
    said = refused(tmp_path, wrong)
    assert "\n" not in said
    for fact in (
        "tasks.questions.finetune.learning_rte: is not a known key",
        'tasks.questions.finetune.epochs: Input should be a valid integer, got "four"',
        "tasks.questions.finetune.learning_rate: Input should be a finite number, got NaN",
        (
            "tasks.questions.finetune.tune: name grow is not one of 'full', 'linear_probe', "
            "'freeze', 'gradual', 'lora', 'ia3', 'bitfit'"
        ),
        (
            "tasks.questions.augment.transforms.0.words: Input should be less than or equal to "
            "1, got 1.5"
        ),
        "tasks.questions.data.layout.files.0.path: must be a relative path without '..'",
        "tasks.questions.evaluate.baselines.0: needs a `name`",
        "tasks.questions.split.seed: is missing",
        "tasks.Bad Key",
    ):
        assert fact in said


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../b", "a//b", "./a", "a/", "", ".."])
def test_a_path_stays_below_its_folder(tmp_path: Path, path: str) -> None:
    wrong = document()
    wrong["tasks"]["questions"]["data"]["layout"]["files"][0]["path"] = path
    assert "tasks.questions.data.layout.files.0.path" in refused(tmp_path, wrong)


@pytest.mark.parametrize("value", [True, "1", 1.5, None, [1]])
def test_no_type_is_taken_for_another(tmp_path: Path, value: Any) -> None:
    wrong = document()
    wrong["tasks"]["questions"]["finetune"]["epochs"] = value
    assert "1 mistake: tasks.questions.finetune.epochs:" in refused(tmp_path, wrong)


def test_a_metric_that_the_problem_does_not_have_is_named_with_those_that_it_has(
    tmp_path: Path,
) -> None:
    wrong = document()
    wrong["tasks"]["questions"]["evaluate"]["metric"] = "weighted_f1"
    assert (
        "tasks.questions: evaluate.metric: the problem classification has no weighted_f1; "
        "it has macro_f1, accuracy" in refused(tmp_path, wrong)
    )
    wrong["tasks"]["questions"]["evaluate"]["metric"] = "bleu"
    wrong["tasks"]["questions"]["finetune"]["best_metric"] = "f1"
    said = refused(tmp_path, wrong)
    assert (
        "evaluate.metric: the problem classification has no bleu; it has macro_f1, accuracy" in said
    )
    assert (
        "finetune.best_metric: the problem classification has no f1; "
        "it has macro_f1, accuracy, weighted_f1, loss, last" in said
    )


def test_a_source_that_nobody_brings_is_named(tmp_path: Path) -> None:
    wrong = document()
    wrong["tasks"]["questions"]["base"] = "nowhere"
    have = ", ".join(sorted(wrong["sources"]))
    assert f"tasks.questions.base: there is no source 'nowhere'; have: {have}" in refused(
        tmp_path, wrong
    )


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("sources: &a {}\ntasks: *a\n", "params.yaml:1: a YAML anchor or alias"),
        ("sources: {}\ntasks: !!python/object/apply:os.system [id]\n", "params.yaml:2: a YAML tag"),
        ("sources: {}\nsources: {}\ntasks: {}\n", "not plain YAML 1.2"),
        ("sources: {}\ntasks: {" + "\n", "not plain YAML 1.2"),
        ("[" * 1200, "more than 20 levels deep"),
        ("", "the file"),
        ("sources: {}\ntasks: {2024-01-01: 1}\n", "2024-01-01"),
        ("sources: {}\ntasks: {? [a, b] : 1}\n", "params.yaml"),
        ("sources: {}\ntasks: 2024-13-45\n", "params.yaml"),
        ("#" * (settings.MAX_BYTES + 1), "at most 1,000,000 are read"),
    ],
    ids=[
        "anchor",
        "tag",
        "repeated",
        "unclosed",
        "deep",
        "empty",
        "date_key",
        "list_key",
        "no_date",
        "oversized",
    ],
)
def test_yaml_that_is_not_plain_is_refused_in_one_line(
    tmp_path: Path, text: str, fact: str
) -> None:
    said = refused(tmp_path, text)
    assert fact in said
    assert "\n" not in said


# ---- manifest ----


def samples() -> pd.DataFrame:
    ids = [f"{i:02d}" for i in range(20)]
    frame = pd.DataFrame(
        {
            "id": ids,
            "source_id": ids,
            "group": ids,
            "content": ids,
            "given_part": [None, "test"] * 10,
            "x": "good 好 text",
            "y": [["a"], ["b"]] * 10,
            "stratum": ["a", "b"] * 10,
            "context": None,
            "query": None,
        }
    )
    frame = frame.assign(origin="t.csv:" + frame["id"], meta="{}")
    return pd.concat([frame, frame.iloc[:5].assign(id=frame["id"] + "+1")], ignore_index=True)


def test_a_manifest_is_read_as_it_was_written_and_equal_rows_give_equal_bytes(
    tmp_path: Path,
) -> None:
    manifest.write(samples(), tmp_path / "a.parquet")
    found = manifest.read(tmp_path / "a.parquet")
    wanted = samples().sort_values("id", ignore_index=True)
    assert (
        found["given_part"].fillna("none").tolist() == wanted["given_part"].fillna("none").tolist()
    )
    for column in wanted.columns.drop(["given_part", "context", "query"]):
        assert found[column].tolist() == wanted[column].tolist(), column
    order = list(range(25))
    for seed in range(3):
        random.Random(seed).shuffle(order)
        manifest.write(samples().iloc[order], tmp_path / "b.parquet")
        assert (tmp_path / "b.parquet").read_bytes() == (tmp_path / "a.parquet").read_bytes()


BROKEN = {
    "the id occurs twice": lambda s: s.assign(id=s["id"].replace("03", "02")),
    "its original is not here": lambda s: s[s["id"] != "02"],
    "given_part is not one of": lambda s: s.assign(given_part="dev"),
    "y is missing": lambda s: s.assign(y=[None] * len(s)),
    "a copy is not in the group of its original": lambda s: s.assign(
        group=s["group"].where(s["id"] != "02+1", "03")
    ),
}


@pytest.mark.parametrize("fact", BROKEN)
def test_a_manifest_that_breaks_its_contract_is_not_written(tmp_path: Path, fact: str) -> None:
    with pytest.raises(ManifestError, match=fact):
        manifest.write(BROKEN[fact](samples()), tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_a_manifest_that_breaks_its_contract_is_not_read(tmp_path: Path) -> None:
    reversed_rows = samples().sort_values("id", ascending=False)[manifest.MANIFEST.names]
    manifest.write_table(reversed_rows, tmp_path / "a.parquet", manifest.MANIFEST)
    with pytest.raises(ManifestError, match="not in the order"):
        manifest.read(tmp_path / "a.parquet")
    pd.DataFrame({"id": ["a"]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ManifestError, match="its columns are"):
        manifest.read(tmp_path / "b.parquet")


# ---- receipts ----


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    (tmp_path / "model/deep").mkdir(parents=True)
    for name in ("model/a", "model/deep/b", "metrics.json"):
        (tmp_path / name).write_text(name)
    return tmp_path, receipts.files(tmp_path, ["model", "metrics.json"])


def test_what_was_signed_is_verified_by_file_and_by_folder(
    signed: tuple[Path, dict[str, str]],
) -> None:
    folder, receipt = signed
    assert set(receipts.verify(folder, receipt, "model")) == {"model/a", "model/deep/b"}
    assert set(receipts.verify(folder, receipt, "metrics.json")) == {"metrics.json"}
    (folder / "unsigned").write_text("is nobody's business")
    receipts.verify(folder, receipt, "model")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: (f / "model/deep/b").write_text("model/deep/B"), "model/deep/b"),
        (lambda f: (f / "model/a").unlink(), "model/a"),
        (lambda f: (f / "model/extra").write_text(""), "model/extra"),
    ],
    ids=["changed", "missing", "extra"],
)
def test_a_changed_a_missing_and_an_extra_file_are_caught(
    signed: tuple[Path, dict[str, str]], change: Any, named: str
) -> None:
    folder, receipt = signed
    change(folder)
    with pytest.raises(ReceiptError, match=f"{named}: not the bytes"):
        receipts.verify(folder, receipt, "model")
    receipts.verify(folder, receipt, "metrics.json")


def test_what_nobody_signed_is_refused(signed: tuple[Path, dict[str, str]]) -> None:
    folder, receipt = signed
    (folder / "report.json").write_text("{}")
    for name in ("report.json", "absent", "mod"):
        with pytest.raises(ReceiptError):
            receipts.verify(folder, receipt, name)


def handed_on(folder: Path, **files: str) -> Job:
    """Return the job of a stage that reads what another wrote here and signed.

    `files` maps each name to its content.
    """
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    receipts.write_json(folder / "receipt.json", receipts.files(folder, files))
    return Job("evaluate", "tiny", Path("out"), Path("work"))


def test_what_a_stage_takes_is_what_the_one_before_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = handed_on(Path("data/split/tiny"), train="rows", test="others")
    assert job.take("split", "train").read_text() == "rows"
    assert job.taken == {"data/split/tiny/train": receipts.sha256(Path("data/split/tiny/train"))}
    Path("data/split/tiny/train").write_text("rowS")
    with pytest.raises(
        ReceiptError, match="data/split/tiny/train: not the bytes that its receipt signed"
    ):
        job.take("split", "train")
    assert job.take("split", "test").read_text() == "others"
    with pytest.raises(ReceiptError, match="run `dvc repro augment@tiny` first"):
        job.take("augment", "manifest.parquet")


def test_a_source_that_was_fetched_is_what_fetch_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job, source = Job("validate", "tiny", Path("out"), Path("work")), Path("data/raw/toy")
    source.mkdir(parents=True)
    (source / "a.csv").write_text("text")
    receipts.write_json(source / "source.json", {"files": receipts.files(source, ["a.csv"])})
    Path("data/fetch/toy").mkdir(parents=True)
    assert job.raw("toy")[0] == source
    for change in (
        lambda: (source / "a.csv").write_text("Text"),
        lambda: (source / "b.csv").write_text("more"),
    ):
        change()
        with pytest.raises(
            ReceiptError, match=r"data/raw/toy/\w.csv: not the bytes that its receipt signed"
        ):
            job.raw("toy")
    Path("data/fetch/toy").rmdir()
    assert len(job.raw("toy")[1]) == 64, "what DVC tracks is the user's to change"


def test_a_commit_says_whether_code_or_settings_differ_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert lineage.commit() == "no commit"
    Path("params.yaml").write_text("a: 1\n")
    for command in (
        ("init", "-q"),
        ("add", "params.yaml"),
        ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"),
    ):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    Path("notes.txt").write_text("are no code")
    assert lineage.commit() == head
    Path("params.yaml").write_text("a: 2\n")
    assert lineage.commit() == f"{head}+changes"


# ---- escapes ----


def test_no_data_starts_a_line_or_moves_the_cursor() -> None:
    evil = "a\nrefit: fine\r\x1b[2J\x00\u2028\u202e\ud800\x85"
    escaped = escape.one_line(evil)
    assert escaped == r"a\nrefit: fine\r\x1b[2J\x00\u2028\u202e\ud800\x85"
    assert escaped.isprintable()
    assert escape.one_line("好 é 🙂") == "好 é 🙂"


def test_a_long_text_is_cut() -> None:
    assert len(escape.one_line("x" * 5000)) == 2000
    assert len(escape.extract("\n" * 1_000_000)) == 80
    assert escape.extract("x" * 80) == "x" * 80
    assert escape.extract("x" * 81).endswith("…")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_is_shown_and_not_run(start: str) -> None:
    assert escape.cell(f"{start}1+1") == f"'{start}1+1"
    assert escape.cell("1+1") == "1+1"


# ---- the runner ----

SLOW = """
    import sys, time
    from stages.contract import runner
    from stages.contract.errors import DataError
    from stages.contract.runner import Job

    def validate(job: Job) -> str:
        (job.out / "quarantine.csv").write_text("found")
        print("started", flush=True)
        {body}
        return "done"

    runner.run(validate)
"""


def script(
    folder: Path, body: str, environment: dict[str, str] | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Return the command of a stage whose story is `body`, and where to run it."""
    if not (folder / "params.yaml").exists():
        task = document()["tasks"]["questions"]
        YAML().dump(
            {
                "flows": document()["flows"],
                "sources": document()["sources"],
                "tasks": {"tiny": task},
            },
            folder / "params.yaml",
        )
    (folder / "story.py").write_text(textwrap.dedent(SLOW).format(body=body))
    where = {
        "cwd": folder,
        "env": os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        "text": True,
    }
    return [sys.executable, "story.py", "tiny"], where


def test_a_second_run_of_a_stage_is_refused_with_one_line(tmp_path: Path) -> None:
    command, where = script(tmp_path, "time.sleep(60)")
    with subprocess.Popen(command, stdout=subprocess.PIPE, **where) as first:
        try:
            assert first.stdout and first.stdout.readline() == "started\n"
            second = subprocess.run(command, capture_output=True, timeout=30, check=False, **where)
            assert second.returncode == 3
            holder = rf"process {first.pid} on \S+ has held it since \S+ \(\S+ tiny\)"
            assert re.fullmatch(
                rf"refit: data/.work/validate/tiny/lock: {holder}; wait for it, or stop it\n",
                second.stderr,
            ), second.stderr
        finally:
            first.kill()
    command, where = script(tmp_path, "pass")  # a killed run leaves no lock and no half outputs
    assert (
        subprocess.run(command, capture_output=True, timeout=30, check=False, **where).returncode
        == 0
    )
    assert [p.name for p in (tmp_path / "data/.work/validate/tiny").iterdir()] == ["lock"]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_stage_dies_with_its_killed_parent(tmp_path: Path) -> None:
    command, where = script(tmp_path, "time.sleep(60)")
    (tmp_path / "parent.py").write_text(
        f"import subprocess\nchild = subprocess.Popen({command!r})\n"
        "print(child.pid, flush=True)\nchild.wait()\n"
    )
    with subprocess.Popen([sys.executable, "parent.py"], stdout=subprocess.PIPE, **where) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "started\n"
        parent.kill()
    until = time.monotonic() + 2
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    alive = _alive(child)
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_stage_whose_dvc_was_gone_before_it_began_ends_and_leaves_nothing(tmp_path: Path) -> None:
    """DVC's shell says who started the stage; this process is not that one."""
    command, where = script(tmp_path, "time.sleep(60)", {"REFIT_PARENT": str(os.getpid() + 1)})
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, **where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"refit: the parent process {os.getpid() + 1} is gone\n"
    assert not (tmp_path / "data/validate").exists()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_stage_that_refuses_leaves_no_outputs_and_keeps_what_it_found(tmp_path: Path) -> None:
    command, where = script(tmp_path, 'raise DataError("train.csv:1: is\\nwrong")')
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, **where)
    assert done.returncode == 2
    assert (
        done.stderr == "refit: train.csv:1: is\\nwrong; what was found is in "
        "data/.work/validate/tiny/refused/\n"
    )
    assert not (tmp_path / "data/validate").exists()
    assert (tmp_path / "data/.work/validate/tiny/refused/quarantine.csv").read_text() == "found"
    command, where = script(tmp_path, "pass")
    assert (
        subprocess.run(command, capture_output=True, timeout=30, check=False, **where).returncode
        == 0
    )
    assert not (tmp_path / "data/.work/validate/tiny/refused").exists()
    assert (tmp_path / "data/validate/tiny/quarantine.csv").exists()


def test_a_bug_keeps_its_traceback_and_leaves_no_outputs(tmp_path: Path) -> None:
    command, where = script(tmp_path, "1 / 0")
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, **where)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr
    assert not (tmp_path / "data/validate").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stage_that_is_stopped_says_so_in_one_line_and_takes_away_what_it_had_half_made(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command, where = script(tmp_path, "time.sleep(60)")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where
    ) as stopped:
        assert stopped.stdout and stopped.stdout.readline() == "started\n"
        stopped.send_signal(number)
        _, said = stopped.communicate(timeout=30)
    assert (stopped.returncode, said) == (
        code,
        f"refit: stopped by {number.name}; what was half made is removed\n",
    )
    assert [p.name for p in (tmp_path / "data/.work/validate/tiny").iterdir()] == ["lock"]
    assert not (tmp_path / "data/validate").exists()


def test_what_the_system_refuses_and_a_user_can_mend_is_one_line_and_a_mistake_of_ours_is_not(
    tmp_path: Path,
) -> None:
    """/dev/full is a full disk; its error names no file."""
    for body, code, says in (
        (
            'open("/dev/full", "w").write("x" * 100_000)',
            2,
            "refit: No space left on device; choose another path, or make room\n",
        ),
        (
            'open("x" * 300, "w")',
            2,
            f"refit: {'x' * 199}…: File name too long; choose another path, or make room\n",
        ),
        ('open("nowhere")', 1, "FileNotFoundError"),
    ):
        command, where = script(tmp_path, body)
        done = subprocess.run(command, capture_output=True, timeout=30, check=False, **where)
        assert done.returncode == code and (
            done.stderr == says if code == 2 else says in done.stderr
        ), done.stderr
        assert [p.name for p in (tmp_path / "data/.work/validate/tiny").iterdir()] == ["lock"]


@namespaces
def test_a_full_disk_is_named_even_where_a_library_says_something_else(tmp_path: Path) -> None:
    body = (
        'import os; os.system("head -c 9000000 /dev/zero 2> /dev/null > data/.work/fill"); '
        'raise RuntimeError("unexpected pos 64 vs 0")'
    )
    command, where = script(tmp_path, body)
    (tmp_path / "data/.work").mkdir(parents=True)
    small = f"mount -t tmpfs -o size=2m none data/.work && exec {' '.join(command)}"
    done = subprocess.run(
        [*PRIVATE, "bash", "-c", small], capture_output=True, timeout=30, check=False, **where
    )
    said = (
        f"refit: {tmp_path}/data/.work/validate/tiny: No space left on device; "
        "choose another path, or make room\n"
    )
    assert (done.returncode, done.stderr) == (2, said)


def test_what_a_stage_says_is_one_line_whatever_its_data_holds(tmp_path: Path) -> None:
    command, where = script(tmp_path, 'return "label a\\nrefit: all is well\\x1b[2J is rare"')
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, **where)
    assert done.stdout.splitlines()[1:] == [
        r"validate tiny: label a\nrefit: all is well\x1b[2J is rare"
    ]


def test_a_key_is_letters_digits_and_underscores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["A"], ["a b"], [""], ["a;b"], ["a", "b"], []):
        monkeypatch.setattr(sys, "argv", ["validate", *words])
        with pytest.raises(ParamsError, match="usage:"):
            runner._key("validate")
    command, where = script(tmp_path, "pass")
    done = subprocess.run(
        [*command[:2], "../x"], capture_output=True, timeout=30, check=False, **where
    )
    assert done.returncode == 2
    assert done.stderr.startswith("refit: usage:") and done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


# ---- the tracking server ----


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Yield the port of a socket that accepts, and gives each request this answer or none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                accepted.append(peer)
                if answer is not None:
                    peer.recv(65536)
                    peer.sendall(answer)
                    peer.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for peer in accepted:
            peer.close()


@contextmanager
def web(status: int, seen: list[dict[str, str]] | None = None) -> Iterator[int]:
    """Yield the port of a web server that answers everything with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(dict(self.headers))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_server_that_accepts_and_never_answers_is_unreachable_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening(None) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} does not answer within 5 s"):
            store.ping()
        assert time.monotonic() - began < 10


def test_a_closed_port_is_unreachable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}/")
    began = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        store.ping()
    assert time.monotonic() - began < 5
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b""],
    ids=["ssh", "no_status", "nothing"],
)
def test_a_server_that_speaks_no_http_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    with listening(answer) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError):
            store.ping()


@pytest.mark.parametrize("address", ["http://127.0.0.1:port", "http://", "http://[::1"])
def test_an_address_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UnreachableError):
        store.ping()


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 503])
def test_any_status_is_an_answer(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with web(status) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        store.ping()


def test_a_user_and_a_password_in_the_address_are_no_part_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with web(200) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
        store.ping()


@pytest.mark.parametrize(
    "address", ["", "sqlite:///mlflow.db", "postgresql://host/mlflow", "databricks"]
)
def test_a_store_on_disk_needs_no_ping(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    store.ping()


@pytest.mark.parametrize(
    "address", ["file:///somewhere/fs", "file:./mlruns", "./mlruns", "/somewhere/fs", "mlruns"]
)
def test_a_folder_of_files_is_no_store(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(RegistryError, match=r"is a folder of files.*sqlite:///mlflow.db"):
        store.ping()


def test_a_registry_apart_from_the_runs_is_refused_and_the_same_one_is_no_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://host/mlflow")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://user:secret@elsewhere")
    with pytest.raises(
        RegistryError, match=r"MLFLOW_REGISTRY_URI: https://elsewhere is another store"
    ) as caught:
        store.ping()
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://host/mlflow")
    location.settle()
    store.ping()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://127.0.0.1:9/team@x", "http://127.0.0.1:9/team@x"),
        ("http://host/team@x", "http://host/team@x"),
        ("http://bob:secret@host/team@x", "http://host/team@x"),
        ("http:/bob:secret@host:9", "http:/host:9"),
        ("bob:secret@host:9", "bob:host:9"),
        ("http://host/?token=secret&x=secret#y", "http://host/?token=…&x=…#y"),
        ("postgresql://bob:secret@host/db?sslmode=require", "postgresql://host/db?sslmode=…"),
        ("mlflow.db", "mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, address: str, shown: str
) -> None:
    assert escape.address(address) == shown
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert location.database() is None


def test_a_folder_whose_name_mlflow_reads_as_an_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("what?", "100%25"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
        location.settle()
        with pytest.raises(
            RegistryError,
            match="takes \\? and % of a folder's name for marks of an address; rename the folder",
        ):
            store.ping()


@pytest.mark.parametrize(
    ("address", "without", "user", "password"),
    [
        ("http://user:secret@host:5000/x", "http://host:5000/x", "user", "secret"),
        ("https://user:s%40cret@host", "https://host", "user", "s@cret"),
        ("https://user:s/cr@et@host/", "https://host/", "user", "s/cr@et"),
        ("https://token@host", "https://host", "token", ""),
        ("https://:secret@host", "https://host", "", "secret"),
        ("http://user:se cret@host:5000", "http://host:5000", "user", "se cret"),
    ],
)
def test_user_and_password_leave_the_address_for_variables_that_no_library_prints(
    monkeypatch: pytest.MonkeyPatch, address: str, without: str, user: str, password: str
) -> None:
    monkeypatch.setattr(os, "environ", {"MLFLOW_TRACKING_URI": address})  # settle writes into it
    location.settle()
    assert os.environ == {
        "MLFLOW_TRACKING_URI": without,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    }
    if " " not in address:  # a text does not say where such an address ends
        assert escape.redact(f"GET {address} failed") == f"GET {without} failed"
    monkeypatch.setattr(
        os,
        "environ",
        {
            "MLFLOW_TRACKING_URI": address,
            "MLFLOW_TRACKING_USERNAME": "mine",
            "MLFLOW_TRACKING_PASSWORD": "own",
        },
    )
    location.settle()
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "mine"
