"""refit add: data of any shape becomes a tracked source and a complete block.

If it does not, one line says why.
"""

import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from stages import cli
from stages.commands import blocks, defaults, guess, proposal, transfer
from stages.commands.add import STARTERS
from stages.contract import plugins, settings
from stages.contract.errors import ParamsError, RefitError, UnreachableError, mendable
from stages.params.task import Task
from stages.project import tracking
from tests.conftest import ROOT, Project, flows, rows, write_csv, write_texts
from tests.test_hub import COMMIT, Server, Shelf, handler

REFIT = Path(sys.executable).with_name("refit")

FLOWS = f"flows: {json.dumps(flows())}\n"  # JSON is YAML too


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, fresh: Project) -> Project:
    """A project with the base model and no task; tests start from a copy of it."""
    project = fresh.copy(tmp_path_factory.mktemp("empty") / "project")
    (project.root / "params.yaml").write_text(
        f"# mine\n{FLOWS}sources: {{}}\n\ntasks: {{}}  # none yet\n"
    )
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "no task")
    return project


@pytest.fixture
def project(empty: Project, tmp_path: Path) -> Project:
    """A copy of the empty project."""
    return empty.copy(tmp_path / "project")


def add(
    project: Project, *arguments: str, ok: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    return project.run(str(REFIT), "add", *arguments, ok=ok, **environment)


def state(project: Project) -> dict[str, Any]:
    """Return what an add may change, whether git ignores it or not.

    That is params.yaml, dvc.lock, and the names below data/raw and data/fetch.
    """
    names = [
        p.relative_to(project.root).as_posix()
        for of in ("raw", "fetch")
        for p in (project.root / "data" / of).rglob("*")
    ]
    files = {
        name: path.read_bytes() if (path := project.root / name).exists() else None
        for name in ("params.yaml", "dvc.lock")
    }
    return files | {"names": sorted(names), "new": (project.root / "params.yaml.new").exists()}


def line_of(failed: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """Return the one line of a command that refuses."""
    assert failed.returncode == code, failed.stdout + failed.stderr
    assert len(failed.stderr.splitlines()) == 1, failed.stderr
    assert failed.stderr.startswith("refit: ")
    return failed.stderr


def refused(project: Project, *arguments: str) -> str:
    """Return the line of an add that refuses, called in this process.

    Every command of ours reports the error as `told` does.
    """
    with contextlib.chdir(project.root):
        error = CliRunner().invoke(cli.app, ["add", *arguments]).exception
    assert isinstance(error, RefitError), error
    assert error.exit_code == 2
    return mendable(error) or ""


def test_the_block_is_complete_every_line_of_it_says_what_it_is_and_json_says_the_same(
    project: Project, tmp_path: Path
) -> None:
    said = json.loads(
        add(
            project, "mine", str(write_texts(tmp_path / "in")), "--base", "tiny_bert", "--json"
        ).stdout
    )
    assert (said["task"], said["rows"], said["labels"]) == (
        "mine",
        90,
        {"praise": 30, "blame": 30, "ask": 30},
    )
    text = (project.root / "params.yaml").read_text()
    assert text.startswith(f"# mine\n{FLOWS}sources: {{}}\n\ntasks:  # none yet\n  mine:\n")
    block = text[text.index("  mine:\n") + 8 :].splitlines()
    # Weights of labels, and what lies in lists, of which DVC would drop the comments.
    keys = [line for line in block if re.match(r" {4}(  )?[a-z_]+:", line)]
    assert len(keys) > 60 and all("  # " in line for line in keys)
    assert settings.load(project.root / "params.yaml").tasks["mine"].data.layout.name == "folders"
    written = YAML(typ="safe").load(text)["tasks"]["mine"]
    start = YAML(typ="safe").load(STARTERS["text"])
    assert (
        len(
            defaults.apply(start, defaults.Facts(rows=90, rows_a_label=30, imbalance=1), named=True)
        )
        == len(said["chosen"])
        == 1
    )
    del start["slower"]
    for section, values in start.items():  # the starter holds every setting but those found in data
        for key, value in values.items() if section != "base" else ():
            assert (
                value.items() <= written[section][key].items()
                if isinstance(value, dict)
                else written[section][key] == value
            )


SPLITS = {
    "one": ["all"],
    "parts": ["train", "test"],
    "shards": ["train-0001", "train-0002", "valid", "test"],
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
def test_a_table_of_any_kind_is_read_by_its_names(tmp_path: Path, kind: str, split: str) -> None:
    from stages.contract import walk
    from stages.layouts import table

    of_x = plugins.modality("text")

    for name in SPLITS[split]:
        frame = (
            pd.DataFrame(rows(30))
            .assign(stars=range(30))
            .rename(columns={"text": "Sentence", "label": "Intent"})
        )
        match kind.removesuffix(".gz"):
            case "csv":
                content = frame.to_csv(index=False).encode()
            case "tsv":
                content = frame.to_csv(index=False, sep="\t").encode()
            case "jsonl":
                content = frame.to_json(orient="records", lines=True).encode()
            case _:
                content = frame.to_parquet()
        (tmp_path / f"{name}.{kind}").write_bytes(
            gzip.compress(content) if kind.endswith(".gz") else content
        )
    (tmp_path / "names.json").write_text("[]")
    found = guess.layout(tmp_path, walk.walk(tmp_path).files, None, None)
    assert isinstance(found, guess.Table)
    assert (found.columns.x, found.columns.y) == ("Sentence", "Intent")
    assert [file.path for file in found.files] == [f"{name}.{kind}" for name in SPLITS[split]]
    assert {file.part for file in found.files} == (
        {None}
        if split == "one"
        else {"train", "test"}
        if split == "parts"
        else {"train", "validation", "test"}
    )
    read = table.read(tmp_path, found, "utf-8", of_x)
    assert len(read) == 30 * len(SPLITS[split])
    assert read["x"].tolist()[:30] == [row["text"] for row in rows(30)]
    assert read["code"].isna().all()
    assert json.loads(read["meta"][7])["stars"] in ("7", 7)


@pytest.mark.parametrize("shape", ["a table", "a folder a label"])
def test_chinese_in_gbk_is_recognised_and_the_block_and_a_line_say_so(
    project: Project, tmp_path: Path, shape: str
) -> None:
    texts = [f"{['我很喜欢', '不要买这个'][i % 2]}:{row['text']}" for i, row in enumerate(rows(30))]
    if shape == "a table":
        (tmp_path / "in.csv").write_bytes(
            (
                "内容,类别\n" + "".join(f"{text},{'好差'[i % 2]}\n" for i, text in enumerate(texts))
            ).encode("gbk")
        )
    else:
        for i, text in enumerate(texts):
            (tmp_path / "in" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / "ab"[i % 2] / f"{i}.txt").write_bytes(text.encode("gbk"))
    columns = ["--text", "内容", "--label", "类别"] if shape == "a table" else []
    said = add(
        project,
        "mine",
        str(tmp_path / ("in.csv" if shape == "a table" else "in")),
        "--base",
        "tiny_bert",
        *columns,
    ).stdout
    assert "read as gb18030, which is what it looks like; tasks.mine.data.encoding says so" in said
    assert settings.load(project.root / "params.yaml").tasks["mine"].data.encoding == "gb18030"
    # The tiny base reads no Chinese.
    project.params(lambda p: p["tasks"]["mine"]["validate"].update(max_unknown_tokens=None))
    assert "30 rows of 2 labels" in project.stage("validate", "mine").stdout


def test_columns_are_told_by_what_they_hold_or_by_the_user(
    project: Project, tmp_path: Path
) -> None:
    table = [
        {"n": str(i), "what": row["text"], "kind": row["label"], "other": "ab"[i % 2]}
        for i, row in enumerate(rows(60))
    ]
    write_csv(tmp_path / "a.csv", table)
    line = line_of(add(project, "mine", str(tmp_path / "a.csv"), "--base", "tiny_bert", ok=False))
    assert "cannot tell which column is the label" in line
    assert "kind (3 values in 60 rows)" in line
    assert "--label COLUMN" in line
    add(project, "mine", str(tmp_path / "a.csv"), "--base", "tiny_bert", "--label", "kind")
    columns = settings.load(project.root / "params.yaml").tasks["mine"].data.layout.columns  # pyright: ignore
    assert (columns.x, columns.y) == ("what", "kind")


def odd(folder: Path, what: str) -> Path:
    """Make something that nobody should bring."""
    match what:
        case "a pipe":
            os.mkfifo(write_texts(folder) / "praise/pipe.txt")
        case "a link outside":
            (write_texts(folder) / "praise/link.txt").symlink_to("/etc/hostname")
        case "a name that is not UTF-8":
            Path(
                os.fsdecode(os.fsencode(write_texts(folder) / "praise") + b"/caf\xe9.txt")
            ).write_text("x")
        case "no readable file":
            (folder / "a").mkdir(parents=True)
            (folder / "a/1.doc").write_bytes(b"\xd0\xcf")
        case "an empty folder":
            folder.mkdir()
        case "an empty label":
            (write_texts(folder) / "notes/.hidden").mkdir(parents=True)
            (folder / "notes/.hidden/x.txt").write_text("secret")
        case "one label":
            write_texts(folder / "deep")
            shutil.rmtree(folder / "deep/praise")
            shutil.rmtree(folder / "deep/blame")
            (folder / "deep").rename(folder.with_name("flat"))
            return folder.with_name("flat")
        case "10,000 labels":
            write_csv(
                folder / "a.csv", [{"text": f"text {i}", "label": f"l{i}"} for i in range(10_000)]
            )
        case "Windows-1252":
            folder.mkdir()
            (folder / "a.csv").write_bytes(
                b"text,label\n" + b"caf\xe9 fine,good\n" * 30 + b"bad,bad\n" * 30
            )
        case "a column that is not UTF-8":
            folder.mkdir()
            (folder / "a.csv").write_bytes(b"text,sujet pr\xe9cis\n" + b"fine,good\n" * 30)
        case "rare labels":
            write_csv(folder / "a.csv", [*rows(60), {"text": "once", "label": "rare"}])
        case "empty labels":
            write_csv(
                folder / "a.csv",
                [row | {"label": row["label"] if i % 5 else ""} for i, row in enumerate(rows(100))],
            )
        case "no header":
            write_csv(
                folder / "a.csv",
                [{"so good": row["text"], "praise": row["label"]} for row in rows(60)],
            )
        case "a name that is too long":
            return folder / ("x" * 300)
        case _:
            return folder / what
    return folder


ODD = {
    "a pipe": ("cannot be tracked", "praise/pipe.txt is not a regular file"),
    "a link outside": ("praise/link.txt is a link that leads outside",),
    "a name that is not UTF-8": ("has a name that is not UTF-8",),
    "no readable file": ("no file that Refit reads", "1 .doc"),
    "an empty folder": ("has no file",),
    "an empty label": ("folder(s) without a file: notes",),
    "one label": ("has samples of one folder, ask", "two at least"),
    "10,000 labels": ("10,000 labels in 10,000 good rows", "--label COLUMN"),
    "a name that is too long": ("is not there",),
    "Windows-1252": ("30 of 60 rows cannot be used", "a.csv:2: bytes that are not UTF-8"),
    "a column that is not UTF-8": ("the name of a column", "is not UTF-8"),
    "rare labels": ("1 of 4 labels have fewer than 3 rows", "rare (1)"),
    "empty labels": ("20 of 100 rows cannot be used", "the label is empty"),
    "no header": ("looks like data, not like a header", "praise (3 values"),
    "nothing there": ("is not there",),
}


@pytest.mark.parametrize("what", ODD)
def test_data_that_cannot_be_learned_from_is_one_line_and_leaves_nothing(
    empty: Project, tmp_path: Path, what: str
) -> None:
    before = state(empty)
    line = refused(empty, "mine", str(odd(tmp_path / "in", what)), "--base", "tiny_bert")
    assert all(fact in line for fact in ODD[what]), line
    assert state(empty) == before


REFUSED = {
    "a name DVC cannot bear": (("My-Task", "{in}", "--base", "tiny_bert"), ("a-z, 0-9 and _",)),
    "a name that leaves the folder": (
        ("../mine", "{in}", "--base", "tiny_bert"),
        ("a-z, 0-9 and _",),
    ),
    "a name that is taken": (
        ("reviews", "{in}", "--base", "tiny_bert"),
        ("data/raw/reviews is there",),
    ),
    "no such base": (
        ("mine", "{in}", "--base", "nothing"),
        ("--base nothing: no source (have: e5, minilm, mobilenet, resnet)",),
    ),
    "a known base's name": (
        ("resnet", "{in}", "--base", "resnet"),
        ("is the name of the base model's source too",),
    ),
    "a word of YAML": (("true", "{in}", "--base", "tiny_bert"), ("no word of YAML",)),
    "a name like a number": (("1e5", "{in}", "--base", "tiny_bert"), ("a name is a letter",)),
    "an address that is none": (
        ("mine", "https://[bad/a.csv", "--base", "tiny_bert"),
        ("is no address",),
    ),
    "an address with a token": (
        ("mine", "https://hidden@example.org/a.csv", "--base", "tiny_bert"),
        ("contains a password or a key",),
    ),
    "an address that is signed": (
        ("mine", "https://example.org/a.csv?X-Amz-Signature=hidden", "--base", "tiny_bert"),
        ("contains a password or a key",),
    ),
    "columns of a folder": (
        ("mine", "{in}", "--base", "tiny_bert", "--label", "stars"),
        ("has no columns",),
    ),
    "the base's own name": (
        ("base", "{in}", "--base", "{base}"),
        ("is the name of the base model's source too",),
    ),
    "a base outside by its name": (
        ("mine", "{in}", "--base", "../raw/../raw/nothing"),
        ("no source",),
    ),
    "an address with a password": (
        ("mine", "https://me:hidden@example.org/a.csv", "--base", "tiny_bert"),
        ("contains a password",),
    ),
    "no repo of a hub": (
        ("mine", "hub:org/../toy", "--base", "tiny_bert"),
        ("is no repo of a hub",),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_name_or_base_that_cannot_be_is_one_line_and_leaves_nothing(
    empty: Project, tmp_path: Path, what: str
) -> None:
    (arguments, facts), before = REFUSED[what], state(empty)
    base = shutil.copytree(empty.root / "data/raw/tiny_bert", tmp_path / "base")
    line = refused(
        empty,
        *(
            a.replace("{in}", str(write_texts(tmp_path / "in"))).replace("{base}", str(base))
            for a in arguments
        ),
    )
    assert all(fact in line for fact in facts), line
    assert "hidden" not in line
    assert state(empty) == before


BLOCK = "{block}"
TEXTS = {
    "tasks last": ("sources: {}\ntasks: {}\n", "sources: {}\ntasks:\n{block}"),
    "no last newline": ("tasks: {}\nsources: {}", "tasks:\n{block}sources: {}\n"),
    "a comment after": (
        "tasks: {} # mine\n# the end\nsources: {}\n",
        "tasks: # mine\n{block}# the end\nsources: {}\n",
    ),
    "windows": (
        "sources: {}\r\ntasks: {}\r\n# end\r\n",
        "sources: {}\r\ntasks:\r\n{block}# end\r\n",
    ),
}


def proposed() -> Task:
    """Return the task that `refit add` writes for the reviews of the project here."""
    data = guess.data(Path("data/raw/reviews"), [Path("train.csv")], None, None)
    start = settings.read_yaml(STARTERS["text"])
    return proposal.task(data, "reviews", "tiny_bert", start, None)[0]


@pytest.mark.parametrize("what", TEXTS)
def test_a_block_is_put_in_and_every_other_byte_stays(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    head = FLOWS.replace("\n", "\r\n") if what == "windows" else FLOWS
    before, after = (head + text for text in TEXTS[what])
    path = tmp_path / "params.yaml"
    path.write_bytes(before.encode())
    shutil.copytree(empty.root / "data/raw", tmp_path / "data/raw")
    monkeypatch.chdir(tmp_path)
    task = proposed()
    first = blocks.write("tasks", "first", task)
    once = path.read_bytes().decode()
    assert once == after.replace(BLOCK, first)
    second = blocks.write("tasks", "second", task)
    newline = "\r\n" if what == "windows" else "\n"
    assert path.read_bytes().decode() == once.replace(first, f"{first}{newline}{second}")
    # Also after a block that ends the file without a newline.
    path.write_bytes(path.read_bytes().rstrip())
    blocks.write("tasks", "third", task)
    assert list(settings.load().tasks) == ["first", "second", "third"]


def test_a_block_follows_the_indent_of_its_section(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(empty.root / "data/raw", tmp_path / "data/raw")
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(FLOWS + "sources: {}\ntasks: {}\n")
    task = proposed()
    blocks.write("tasks", "first", task)
    wide = "".join(
        f"  {line}" if line.startswith("  ") else line
        for line in Path("params.yaml").read_text().splitlines(keepends=True)
    )
    Path("params.yaml").write_text(wide)
    assert blocks.write("tasks", "second", task).startswith("    second:\n      modality:")
    assert list(settings.load().tasks) == ["first", "second"]
    Path("params.yaml").write_text(FLOWS + "sources: {}\ntasks: {first: {}}\n")
    with pytest.raises(ParamsError, match="tasks is written in braces"):
        blocks.write("tasks", "second", task)


def test_two_adds_at_once_are_one_after_the_other_or_refused(
    project: Project, tmp_path: Path
) -> None:
    from stages.contract.locks import Lock

    with Lock(project.root / "data/.work/add"):
        line = line_of(
            add(
                project, "mine", str(write_texts(tmp_path / "in")), "--base", "tiny_bert", ok=False
            ),
            code=3,
        )
    assert f"data/.work/add/lock: process {os.getpid()} on" in line


def test_an_interrupted_add_leaves_nothing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.commands import add as command

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = state(project)
    monkeypatch.chdir(project.root)
    for broken in ("require_space", "walk"):  # before the copy, and after the base model was copied
        # A Ctrl-C that comes at this moment each time.
        monkeypatch.setattr(tracking, "dvc", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command.add(
                "mine",
                str(write_texts(tmp_path / broken)),
                str(
                    shutil.copytree(
                        project.root / "data/raw/tiny_bert", tmp_path / f"base_{broken}"
                    )
                ),
                None,
                None,
            )
        assert state(project) == before
    with pytest.raises(KeyboardInterrupt):  # after the source was written into params.yaml
        command.add("mine", f"hub:org/toy@{COMMIT}", "tiny_bert", None, None)
    assert state(project) == before


def test_hidden_files_and_what_no_layout_reads_stay_where_they_are(
    project: Project, tmp_path: Path
) -> None:
    folder = write_texts(tmp_path / "in")
    for name in (
        ".env",
        ".ssh/key",
        "README.txt",
        "ask/.hidden/x.txt",
        "ask/Thumbs.db",
        "__MACOSX/ask/1.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    add(project, "mine", str(folder), "--base", "tiny_bert")
    added = {
        p.relative_to(project.root / "data/raw/mine")
        for p in (project.root / "data/raw/mine").rglob("*")
    }
    assert {p.parts[0] for p in added} == {"praise", "blame", "ask"}
    assert len(added) == 90 + 3 and all(p.suffix == ".txt" for p in added if len(p.parts) > 1)


def test_the_layout_of_imdb_is_seen_and_an_unlabelled_table_is_left_aside(tmp_path: Path) -> None:
    from stages.contract import walk

    for part in ("train", "test"):
        for label in ("pos", "neg"):
            (tmp_path / "imdb" / part / label).mkdir(parents=True)
            (tmp_path / "imdb" / part / label / "0_9.txt").write_text("a film")
        (tmp_path / "imdb" / part / "urls_pos.txt").write_text("http://x")
    found = guess.layout(tmp_path / "imdb", walk.walk(tmp_path / "imdb").files, None, None)
    assert [(f.path, f.part) for f in found.folders] == [("train", "train"), ("test", "test")]  # pyright: ignore
    write_csv(
        tmp_path / "kaggle/train.csv", [row | {"id": str(i)} for i, row in enumerate(rows(60))]
    )
    write_csv(
        tmp_path / "kaggle/test.csv",
        [{"id": str(i), "text": row["text"]} for i, row in enumerate(rows(200))],
    )
    found = guess.layout(tmp_path / "kaggle", [Path("test.csv"), Path("train.csv")], None, None)
    assert [f.path for f in found.files] == ["train.csv"]  # pyright: ignore


# ---- addresses ----


class Files(SimpleHTTPRequestHandler):
    """Serves a folder; some names answer otherwise."""

    def do_GET(self) -> None:
        codes = {"/secret.csv": 403, "/gone.csv": 404, "/broken.csv": 500}
        if self.path in codes:
            self.send_error(codes[self.path])
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server here, and the folder it serves."""
    folder = tmp_path / "web"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.mark.slow
def test_a_table_on_the_web_is_imported_and_follows_its_address(
    project: Project, web: tuple[str, Path]
) -> None:
    address, folder = web
    write_csv(folder / "all.csv", rows(120))
    add(project, "mine", f"{address}/all.csv", "--base", "tiny_bert")
    project.repro("validate@mine")
    assert sorted(p.name for p in (project.root / "data/raw/mine").iterdir()) == ["all.csv"]
    write_csv(folder / "all.csv", rows(150))
    assert project.ran("validate@mine") == set()  # nothing asks the address until the user does
    project.run("dvc", "update", "-q", "data/raw/mine.dvc")
    assert project.ran("validate@mine") == {"validate@mine"}
    assert len(pd.read_parquet(project.root / "data/validate/mine/manifest.parquet")) == 150


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("secret.csv", ("refuses it", "403")),
        ("gone.csv", ("404",)),
        ("broken.csv", ("500",)),
        ("page", ("says no table",)),
    ],
)
def test_an_address_that_refuses_is_one_line_and_leaves_nothing(
    empty: Project, web: tuple[str, Path], name: str, facts: tuple[str, ...]
) -> None:
    address, folder = web
    (folder / "page").write_text("<html>")
    before = state(empty)
    line = refused(empty, "mine", f"{address}/{name}", "--base", "tiny_bert")
    assert all(fact in line for fact in facts), line
    assert state(empty) == before


def test_an_address_that_never_answers_is_told_within_seconds(
    empty: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.commands import add as command

    monkeypatch.chdir(empty.root)
    monkeypatch.setattr(transfer, "ANSWER", 1)  # or the test would wait for ten seconds
    before = state(empty)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UnreachableError, match="no answer within 1 s"),
    ):
        command.add(
            "mine", f"http://127.0.0.1:{silent.getsockname()[1]}/a.csv", "tiny_bert", None, None
        )
    assert state(empty) == before


@pytest.mark.slow
def test_a_bucket_is_imported(project: Project, tmp_path: Path) -> None:
    """The S3 server (moto) and dvc-s3 are real."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        keys = {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        s3.create_bucket(Bucket="bucket")
        for path in write_texts(tmp_path / "in", 30).rglob("*.txt"):
            s3.upload_file(str(path), "bucket", f"texts/{path.parent.name}/{path.name}")
        write_csv(tmp_path / "all.csv", rows(60))
        s3.upload_file(str(tmp_path / "all.csv"), "bucket", "tables/all.csv")

        add(project, "folders", "s3://bucket/texts", "--base", "tiny_bert", **keys)
        add(project, "table", "s3://bucket/tables/all.csv", "--base", "tiny_bert", **keys)
        tasks = settings.load(project.root / "params.yaml").tasks
        assert [tasks[name].data.layout.name for name in ("folders", "table")] == [
            "folders",
            "table",
        ]
        assert "does not exist" in line_of(
            add(project, "gone", "s3://bucket/nothing.csv", "--base", "tiny_bert", ok=False, **keys)
        )
        assert not (project.root / "data/raw/gone.dvc").exists()
    finally:
        server.stop()


@pytest.mark.slow
def test_a_data_set_and_a_base_model_of_a_hub_are_added_at_their_commit(
    project: Project, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    write_csv(tmp_path / "train.csv", rows(120))
    table = {"data/train.csv": (tmp_path / "train.csv").read_bytes(), "README.md": b"# toy\n"}
    shelf = Shelf(files=table)
    with Server(("127.0.0.1", 0), handler(shelf)) as server:
        shelf.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{shelf.port}", "HF_HOME": str(tmp_path / "home")}
        said = hub_add(project, "mine", "hub:org/toy", "--base", "tiny_bert", **hub)
        assert f"chosen: commit {COMMIT} of org/toy\n" in said.stdout
        shelf.files = {p.name: p.read_bytes() for p in tiny_base.iterdir()}
        texts = str(write_texts(tmp_path / "in"))
        hub_add(project, "other", texts, "--base", "hub:org/Toy-Base@main", **hub)
        before = state(project)
        shelf.files, shelf.refuse = table, {"resolve": (503, "Overloaded")}
        # it is the stage that is refused: its own line and its exit code come through DVC
        failed = hub_add(project, "third", f"hub:org/toy@{COMMIT}", ok=False, **hub)
        assert "the hub answers 503" in line_of(failed, 4)
        shelf.refuse = {"api": (404, "RepoNotFound")}
        failed = hub_add(project, "third", "hub:org/toy", ok=False, **hub)
        assert "the hub answers 404" in line_of(failed, 2)
        server.shutdown()
    failed = hub_add(project, "third", "hub:org/toy", ok=False, **hub)
    assert "the hub does not answer" in line_of(failed, 4)
    offline = hub_add(project, "third", "hub:org/toy", ok=False, **hub, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set" in line_of(offline, 4)
    assert state(project) == before
    params = settings.load(project.root / "params.yaml")
    assert params.tasks["mine"].data.layout.files[0].path == "data/train.csv"  # pyright: ignore
    for name in ("mine", "toy_base"):
        assert params.sources[name].origin.revision == COMMIT  # pyright: ignore
    assert params.tasks["other"].base == "toy_base"
    project.repro("validate@mine")  # and offline from here on


def hub_add(
    project: Project, *arguments: str, ok: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `refit add` in a process that has not imported huggingface_hub before."""
    command = (sys.executable, "-m", "stages.cli", "add", *arguments)
    done = subprocess.run(
        command,
        cwd=project.root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ok or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def test_labels_of_any_kind_survive_dvc_s_own_writing_of_params(
    project: Project, tmp_path: Path
) -> None:
    """`dvc exp run -S` writes all of params.yaml anew.

    In a flow mapping a label such as `refund?` would break it.
    """
    from dvc.utils.serialize import modify_yaml

    labels = [
        "refund?",
        "a: b",
        "# c",
        "yes",
        "{d}",
        "- e",
        "1.0",
        "null",
        "*f",
        "!g",
        "é 'h' \"i\"",
        "\x7fa\x85b",
        "c\u2028d",
        "\uffff",
        "🙂",
    ]
    write_csv(
        tmp_path / "a.csv",
        [{"text": f"some text of row {i}", "label": labels[i % len(labels)]} for i in range(150)],
    )
    add(project, "mine", str(tmp_path / "a.csv"), "--base", "tiny_bert")
    path = project.root / "params.yaml"
    before = settings.load(path).tasks["mine"]
    with modify_yaml(path) as document:
        document["tasks"]["mine"]["finetune"]["learning_rate"] = 1e-5
    after = settings.load(path).tasks["mine"]
    assert set(after.validate.label_distribution.weights) == set(labels)  # pyright: ignore
    assert after.validate == before.validate
    assert after.finetune.learning_rate == 1e-5
    # The next block finds its place, too.
    add(project, "other", str(tmp_path / "a.csv"), "--base", "tiny_bert")


CHINESE = [
    {
        "text": f"{'这家酒店很好' if i % 2 else '房间太小了'}，第{i}次",
        "label": "good" if i % 2 else "bad",
    }
    for i in range(60)
]


def test_texts_in_another_script_choose_e5_and_what_alters_them(
    project: Project, tmp_path: Path
) -> None:
    """e5 is written as a source and not fetched: `dvc repro` does that."""
    write_csv(tmp_path / "in/reviews.csv", CHINESE)
    said = json.loads(add(project, "mine", str(tmp_path / "in"), "--json").stdout)
    params = settings.load(project.root / "params.yaml")
    task, source = params.tasks["mine"], params.sources["e5"]
    assert (said["base"], task.base, source.origin.name) == ("e5", "e5", "package")
    assert not (project.root / "data/raw/e5").exists()
    assert said["chosen"][0].startswith("CJK in 100% of the texts: the base is e5")
    assert {of.name for of in (*task.augment.transforms, *task.evaluate.robustness.transforms)} == {
        "random_character"
    }
    assert said["takes"] == "can be said once data/raw/e5 is here"


def test_a_base_that_was_named_stays_and_what_it_cannot_read_is_said_and_stops_validate(
    project: Project, tmp_path: Path
) -> None:
    write_csv(tmp_path / "in/reviews.csv", CHINESE)
    said = json.loads(
        add(project, "mine", str(tmp_path / "in"), "--base", "tiny_bert", "--json").stdout
    )
    assert (said["base"], settings.load(project.root / "params.yaml").sources) == ("tiny_bert", {})
    (noted,) = said["notes"]
    assert re.fullmatch(r"tiny_bert does not know \d\d% of the tokens; --base e5 reads them", noted)
    refused = project.stage("validate", "mine", ok=False)
    assert refused.returncode == 2
    assert re.search(
        r"tiny_bert does not know \d\d% of the tokens of these texts; "
        r"take a base model of their language",
        refused.stderr,
    )
    project.params(lambda p: p["tasks"]["mine"]["validate"].update(max_unknown_tokens=None))
    project.stage("validate", "mine")


@pytest.mark.parametrize(
    ("kind", "facts", "tune", "changed"),
    [
        ("text", (19, 1.0), "linear_probe", {"epochs": 1}),
        ("text", (20, 1.0), "full", {"epochs": 10, "best_metric": "last"}),
        ("text", (2000, 1.0), "full", {"epochs": 8, "best_metric": "macro_f1"}),
        ("text", (2500, 1.0), "full", {"epochs": 4, "best_metric": "macro_f1"}),
        ("image", (499, 1.0), "linear_probe", {"epochs": 1}),
        ("image", (500, 1.9), "full", {"epochs": 8, "best_metric": "last"}),
        ("image", (3000, 1.9), "full", {"epochs": 4, "best_metric": "last"}),
        (
            "image",
            (500, 2.0),
            "full",
            {
                "objective": {
                    "name": "cross_entropy",
                    "label_smoothing": 0.0,
                    "class_weights": "balanced",
                }
            },
        ),
    ],
)
def test_what_learns_depends_on_the_rows(
    kind: str, facts: tuple[int, float], tune: str, changed: dict[str, Any]
) -> None:
    """The data have two labels."""
    start = settings.read_yaml(STARTERS[kind])
    defaults.apply(start, defaults.Facts(2 * facts[0], facts[0], facts[1]), named=False)
    assert start["finetune"]["tune"]["name"] == tune
    assert {key: start["finetune"][key] for key in changed} == changed
    assert start["augment"]["on_the_fly"] is (kind == "image" and tune == "full"), (
        "frozen features are those of the pictures as they are"
    )


def test_a_training_that_takes_too_long_learns_less(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every training does if none may take a second; a base of one layer has no top layers."""
    from stages.commands import add as command

    write_csv(tmp_path / "in/reviews.csv", rows(90))
    monkeypatch.chdir(project.root)
    assert command.add("first", str(tmp_path / "in"), "tiny_bert", None, None).chosen[1:] == []
    monkeypatch.setattr(defaults, "MOST_MINUTES", 0.0)
    added = command.add("second", str(tmp_path / "in"), "tiny_bert", None, None)
    assert re.fullmatch(
        r"training .* would take about \d+ minutes here: the head alone is solved \(linear_probe\)",
        added.chosen[1],
    )
    first, second = (settings.load().tasks[name].finetune for name in ("first", "second"))
    assert (first.tune.name, second.tune.name) == ("full", "linear_probe")


# ---- taking it away again ------------------------------------------------------------------------


def test_remove_undoes_add_to_the_byte(project: Project, tmp_path: Path) -> None:
    before = state(project)
    write_texts(tmp_path / "mine")
    for name in ("mine", "other"):
        add(project, name, str(tmp_path / "mine"), "--base", "tiny_bert")
    both = (project.root / "params.yaml").read_text()
    project.stage("validate", "mine")
    kept = project.run(str(REFIT), "remove", "other").stdout
    assert "stays: data/raw/other" in kept and "data/raw/tiny_bert" not in kept
    assert (project.root / "data/raw/other").is_dir()
    assert not (project.root / "data/raw/other.dvc").exists()
    one = (project.root / "params.yaml").read_text()
    assert both.startswith(one) and "\n  other:" not in one
    shutil.rmtree(project.root / "data/raw/other")
    said = project.run(str(REFIT), "remove", "mine", "--data").stdout
    assert "removed: data/validate/mine" in said and "the registry keeps the versions" in said
    after = state(project)
    assert settings.load(project.root / "params.yaml").tasks == {}
    assert (after["names"], after["dvc.lock"]) == (before["names"], before["dvc.lock"])


@pytest.mark.slow
def test_remove_keeps_comments_of_other_tasks_and_refuses_what_is_not_there(
    project: Project, tmp_path: Path
) -> None:
    write_texts(tmp_path / "mine")
    for name in ("one", "two", "three"):
        add(project, name, str(tmp_path / "mine"), "--base", "tiny_bert")
    path = project.root / "params.yaml"
    text = path.read_text().replace("\n  three:\n", "\n  # about three\n  three:\n")
    path.write_text(text)
    project.run(str(REFIT), "remove", "two")
    assert "\n  # about three\n  three:\n" in path.read_text()
    assert list(settings.load(path).tasks) == ["one", "three"]
    for wrong, fact in (("two", "there is no task 'two'; have: one, three"), ("../x", "no task")):
        refused = project.run(str(REFIT), "remove", wrong, ok=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert fact in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_remove_leaves_every_other_byte(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newline: str
) -> None:
    monkeypatch.chdir(project.root)
    write_texts(tmp_path / "mine")
    for name in ("one", "two"):
        add(project, name, str(tmp_path / "mine"), "--base", "tiny_bert")
    path = project.root / "params.yaml"
    whole = path.read_text()
    first = whole[: whole.index("\n  two:\n")].rstrip("\n") + "\n"
    for text, removed, left in (
        (whole.rstrip("\n"), "two", first),  # no line's end at the file's end
        (whole + "# at the end\n", "two", first + "# at the end\n"),
        (first + "\n# mine\n", "one", None),
    ):
        path.write_bytes(text.replace("\n", newline).encode())
        blocks.remove([("tasks", removed)])
        after = path.read_bytes().decode().replace("\r\n", "\n")
        if left is None:
            assert after.endswith("\ntasks: {}  # none yet\n\n# mine\n")
            assert after.partition("tasks:")[0] == first.partition("tasks:")[0]
        else:
            assert after == left
    path.write_text(whole.replace("sources: {}", "sources: {a: {}}"))
    with pytest.raises(ParamsError):
        blocks.remove([("tasks", "one"), ("sources", "a")])
    assert path.read_text() == whole.replace("sources: {}", "sources: {a: {}}")


@pytest.mark.slow
def test_an_experiment_changes_one_line_of_params_yaml(project: Project, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides  # what `dvc exp run -S` does to the file

    write_texts(tmp_path / "mine")
    add(project, "mine", str(tmp_path / "mine"), "--base", "tiny_bert")
    shutil.copy(ROOT / "params.yaml", tmp_path / "ours.yaml")
    for path, task in (
        (project.root / "params.yaml", "mine"),
        (tmp_path / "ours.yaml", "questions"),
    ):
        apply_overrides(str(path), [f"tasks.{task}.finetune.seed=1"])  # of this file's other parts
        before = path.read_text().splitlines()
        apply_overrides(str(path), [f"tasks.{task}.finetune.seed=2"])
        after = path.read_text().splitlines()
        changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert len(changed) == 1 and "seed" in changed[0][0]
    block = project.root / "params.yaml"
    kept = block.read_text().partition("\n  mine:\n")[2]
    project.run("git", "checkout", "-q", "params.yaml")
    (project.root / "data/raw/mine.dvc").unlink()
    shutil.rmtree(project.root / "data/raw/mine")
    add(project, "mine", str(tmp_path / "mine"), "--base", "tiny_bert")
    written = block.read_text().partition("\n  mine:\n")[2]
    assert kept.replace("seed: 2", "seed: 0") == written


def test_params_prints_a_task_whole(project: Project, tmp_path: Path) -> None:
    write_texts(tmp_path / "mine")
    add(project, "mine", str(tmp_path / "mine"), "--base", "tiny_bert")
    shown = project.run(str(REFIT), "params", "mine").stdout
    assert YAML(typ="safe").load(shown) == {
        "mine": YAML(typ="safe").load(project.root / "params.yaml")["tasks"]["mine"]
    }
    assert "# epochs at most" in shown
