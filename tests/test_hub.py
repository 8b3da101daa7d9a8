"""A source from a hub: the real huggingface_hub against a local server like it, no network."""

import hashlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ruamel.yaml import YAML

from tests.conftest import Project, flows
from tests.test_package import left, one_line

COMMIT = "5a" * 20
PICKLE = b"\x80\x04cposix\nsystem\n"
TABLE = {
    "data/train.csv": b"text,label\nfine,good\n",
    "README.md": b"# toy\n",
    "toy.py": b"raise SystemExit('code of a source was run')\n",
}
ODD = ("../../../home/a.csv", "/tmp/a.csv", "a\nb.csv", "source.json")


@dataclass
class Shelf:
    """What the server has, how it misbehaves, and what it was asked."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    commit: str = COMMIT
    alter: Callable[[bytes], bytes] = bytes
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    slow: str = "nothing"
    breaks: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])

    def listing(self) -> dict[str, Any]:
        return {
            "id": "org/toy",
            "sha": self.commit,
            "siblings": [self.stated(n, c) for n, c in self.files.items()],
        }

    def stated(self, name: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name.endswith((".safetensors", ".bin")):
            entry["lfs"] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "pointerSize": 130,
            }
        return entry


def handler(shelf: Shelf) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            kind = next(kind for kind in ("api", "resolve", "cdn") if f"/{kind}/" in path)
            shelf.asked.append((path, self.headers["Authorization"]))
            name = path.split(f"/{COMMIT}/")[-1]
            if kind in shelf.refuse:
                status, code = shelf.refuse[kind]
                self.answer(
                    status,
                    json.dumps({"error": f"because of\n{code}"}).encode(),
                    {"X-Error-Code": code, "Content-Type": "application/json"},
                )
            elif kind == "api":
                self.answer(
                    200, json.dumps(shelf.listing()).encode(), {"Content-Type": "application/json"}
                )
            # The hub sends large files elsewhere, to another host.
            elif kind == "resolve" and "lfs" in shelf.stated(name, b""):
                self.answer(
                    302,
                    b"",
                    {"Location": f"http://localhost:{shelf.port}/cdn/{COMMIT}/{name}?signature=1"},
                )
            else:
                self.answer(200, shelf.alter(shelf.files[name]), {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            # A drop now and then keeps every timeout of a library from striking.
            if shelf.slow in self.path:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for _ in range(100):
                    time.sleep(0.2)
                    self.wfile.write(b"X-Drop: 1\r\n")
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if broken := shelf.breaks and "/resolve/" in self.path:
                shelf.breaks -= 1
            self.wfile.write(body[: len(body) // 2] if broken else body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that hangs up is what some tests are about."""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Serve a shelf to a stage that has the runner's environment and nothing of this machine's."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    held = Shelf()
    with Server(("127.0.0.1", 0), handler(held)) as server:
        held.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield held
        server.shutdown()


def fetch(
    folder: Path, shelf: Shelf, environment: dict[str, str] | None = None, **change: Any
) -> subprocess.CompletedProcess[str]:
    """Run the stage in a folder with nothing but params.yaml."""
    origin = {
        "name": "hub",
        "kind": "dataset",
        "repo": "org/toy",
        "revision": COMMIT,
        "files": ["*"],
        "seconds": 60.0,
    } | change
    YAML().dump(
        {
            "flows": flows(),
            "sources": {"toy": {"origin": origin, "format": {"name": "as_is"}, "licence": "CC0"}},
            "tasks": {},
        },
        folder / "params.yaml",
    )
    hub = {
        "HF_ENDPOINT": f"http://user:secret@127.0.0.1:{shelf.port}",
        "HF_HOME": str(folder / "home"),
        "NO_PROXY": "*",
        "TMPDIR": str(folder),
    }
    return Project(folder).stage(
        "fetch",
        "toy",
        ok=False,
        PYTHONPATH=str(Path(__file__).parent.parent),
        **hub | (environment or {}),
    )


def refused(folder: Path, done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the line of a stage that refuses and leaves nothing: no file, no half, no cache."""
    line = one_line(done)
    assert done.returncode == code, line
    assert "secret" not in line
    assert left(folder) == [] and {p.name for p in folder.iterdir()} <= {"params.yaml", "data"}
    return line


def test_a_model_is_fetched_whole_and_loads_without_a_network(
    tmp_path: Path, shelf: Shelf, tiny_base: Path
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    shelf.files = {p.name: p.read_bytes() for p in tiny_base.iterdir()} | {
        "pytorch_model.bin": PICKLE,
        "modeling_toy.py": TABLE["toy.py"],
    }
    address = f"http://127.0.0.1:{shelf.port}"
    done = fetch(
        tmp_path,
        shelf,
        {"HF_ENDPOINT": address, "HF_TOKEN": "hf_mine"},
        kind="model",
        files=["*.safetensors", "*token*.json", "config.json"],
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "MB from org/toy" in done.stdout

    folder = tmp_path / "data/raw/toy"
    written = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*")}
    assert set(written) == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "source.json",
    }
    assert all(p.is_file() and not p.is_symlink() for p in written.values())
    assert {p.name for p in tmp_path.iterdir()} == {"params.yaml", "data"}, "a cache was left"
    stated = json.loads(written["source.json"].read_text())
    assert stated["origin"] == {
        "repo": "org/toy",
        "kind": "model",
        "revision": COMMIT,
        "endpoint": address,
    }
    assert (
        stated["files"]["model.safetensors"]
        == hashlib.sha256((tiny_base / "model.safetensors").read_bytes()).hexdigest()
    )

    hub, elsewhere = (
        [token for path, token in shelf.asked if ("/cdn/" in path) == cdn] for cdn in (False, True)
    )
    assert set(hub) == {"Bearer hf_mine"} and elsewhere == [None], (
        "the token goes to the hub, and to no one else"
    )
    assert len(shelf.asked) == 1 + 4 + 1  # the list, each file, one of them sent elsewhere

    assert (
        AutoTokenizer.from_pretrained(folder).get_vocab()
        == AutoTokenizer.from_pretrained(tiny_base).get_vocab()
    )
    weights = AutoModel.from_pretrained(folder).state_dict()
    assert all(
        torch.equal(weights[k], v)
        for k, v in AutoModel.from_pretrained(tiny_base).state_dict().items()
    )


def test_a_data_set_is_fetched_and_a_wildcard_passes_over_code_and_pickles(
    tmp_path: Path, shelf: Shelf
) -> None:
    shelf.files = TABLE | {
        "cache.pkl": PICKLE,
        ".gitattributes": b"",
        "more.jsonl.gz": b"packed",
        "more.pkl.gz": PICKLE,
    }
    done = fetch(tmp_path, shelf)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data/raw/toy"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "data/train.csv",
        "README.md",
        "more.jsonl.gz",
        "source.json",
    }
    assert (folder / "data/train.csv").read_bytes() == TABLE["data/train.csv"]
    assert (
        json.loads((folder / "source.json").read_text())["origin"]["endpoint"]
        == f"http://127.0.0.1:{shelf.port}"
    ), "a password was written down"
    assert all(
        path.startswith(("/api/datasets/", "/datasets/org/toy/resolve/")) for path, _ in shelf.asked
    )


def test_a_broken_download_is_taken_up_again_without_a_word(tmp_path: Path, shelf: Shelf) -> None:
    shelf.files, shelf.breaks = TABLE, 1
    done = fetch(tmp_path, shelf, files=["*.csv"])
    assert (done.returncode, done.stderr, shelf.breaks) == (0, "", 0)
    assert (tmp_path / "data/raw/toy/data/train.csv").read_bytes() == TABLE["data/train.csv"]


@pytest.mark.parametrize("name", ["data/train.csv", "train.safetensors"])
def test_a_file_with_one_byte_flipped_is_refused(name: str, tmp_path: Path, shelf: Shelf) -> None:
    shelf.files = {name: TABLE["data/train.csv"]}
    shelf.alter = lambda content: content.replace(b"fine", b"fjne")
    line = refused(tmp_path, fetch(tmp_path, shelf), 2)
    assert f"org/toy@{COMMIT[:12]}: {name} has the hash" in line and "the commit lists" in line


@pytest.mark.parametrize(
    ("files", "change", "said"),
    [
        (
            {"pytorch_model.bin": PICKLE, "config.json": b"{}"},
            {"kind": "model"},
            "`files` selects no *.safetensors (it has pytorch_model.bin)",
        ),
        (
            TABLE,
            {"files": ["*.csv", "*.tsv"]},
            "*.tsv selects no plain data (it has README.md, data/train.csv, toy.py)",
        ),
        (TABLE, {"files": ["*.csv", "toy.py"]}, "toy.py selects no plain data"),
        (
            dict.fromkeys(ODD, b"a"),
            {},
            (
                "../../../home/a.csv, /tmp/a.csv, a\\nb.csv, source.json is no name for a file "
                "of a source"
            ),
        ),
        (TABLE, {"repo": "org/to--y"}, "check `repo` and HF_ENDPOINT"),
    ],
)
def test_what_must_not_be_fetched_is_named_and_nothing_is_downloaded(
    files: dict[str, bytes], change: dict[str, Any], said: str, tmp_path: Path, shelf: Shelf
) -> None:
    shelf.files = files
    assert said in refused(tmp_path, fetch(tmp_path, shelf, **change), 2)
    assert all(path.startswith("/api/") for path, _ in shelf.asked)


def test_files_larger_than_the_disk_are_refused_before_the_first(
    tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.files = TABLE
    true = shelf.stated
    # The test's own server lies about the size: no test can send as many bytes as a disk holds.
    monkeypatch.setattr(
        shelf,
        "stated",
        lambda name, content: true(name, content) | {"size": shutil.disk_usage(tmp_path).total},
    )
    assert (
        "bytes, " in (line := refused(tmp_path, fetch(tmp_path, shelf), 2))
        and "are free on the disk" in line
    )


def test_another_commit_than_the_pinned_one_is_refused(tmp_path: Path, shelf: Shelf) -> None:
    shelf.files, shelf.commit = TABLE, "0" * 40
    assert f"answers with commit {'0' * 40}, not with {COMMIT}" in refused(
        tmp_path, fetch(tmp_path, shelf), 2
    )


def test_a_branch_is_no_revision(tmp_path: Path, shelf: Shelf) -> None:
    assert "sources.toy.origin" in refused(tmp_path, fetch(tmp_path, shelf, revision="main"), 2)


@pytest.mark.parametrize(
    ("refusal", "code", "said"),
    [
        ({"api": (401, "")}, 2, "the hub answers 401 (because of); check"),
        ({"api": (403, "GatedRepo")}, 2, "needs access granted on its page, and HF_TOKEN"),
        (
            {"api": (404, "RevisionNotFound")},
            2,
            (
                "the hub answers 404 (because of\\nRevisionNotFound); "
                "check `repo`, `kind` and `revision`"
            ),
        ),
        ({"api": (503, "")}, 4, "try again later"),
        ({"api": (200, "")}, 2, "or this is none"),
        ({"cdn": (500, "")}, 4, "try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    refusal: dict[str, tuple[int, str]], code: int, said: str, tmp_path: Path, shelf: Shelf
) -> None:
    shelf.files, shelf.refuse = TABLE | {"a.safetensors": b""}, refusal
    assert said in refused(tmp_path, fetch(tmp_path, shelf), code)


@pytest.mark.parametrize("slow", ["/api/", "/resolve/"])
def test_a_hub_that_never_ends_its_answer_is_left_when_the_seconds_are_over(
    slow: str, tmp_path: Path, shelf: Shelf
) -> None:
    shelf.files, shelf.slow = TABLE, slow
    began = time.monotonic()
    assert "not done within 1 s" in refused(tmp_path, fetch(tmp_path, shelf, seconds=1.0), 4)
    assert time.monotonic() - began < 10


def test_a_hub_that_is_not_there_is_one_line(tmp_path: Path, shelf: Shelf) -> None:
    assert "the hub does not answer" in refused(
        tmp_path, fetch(tmp_path, shelf, {"HF_ENDPOINT": "http://user:secret@127.0.0.1:9"}), 4
    )


def test_a_user_who_is_offline_stays_so(tmp_path: Path, shelf: Shelf) -> None:
    assert "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set" in refused(
        tmp_path, fetch(tmp_path, shelf, {"HF_HUB_OFFLINE": "1"}), 4
    )
    assert shelf.asked == []
