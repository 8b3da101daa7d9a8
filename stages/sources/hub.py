"""Take files of one commit of a Hugging Face model or data set.

It takes plain data and safetensors, never code and never a pickle.
"""

import hashlib
import re
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from httpx2 import HTTPError, InvalidURL
from huggingface_hub import HfApi, hf_hub_url, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, logging

from stages.contract.errors import SourceError, UnreachableError
from stages.contract.escape import extract, one_line, redact
from stages.contract.receipts import sha256
from stages.params.sources import Hub

HOME = "https://huggingface.co"
SILENCE = 10.0  # seconds that a hub may take to begin an answer
LISTING = 25.0  # seconds for the list of files, with every address of the hub tried
PLAIN = (".safetensors", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".md", ".yaml",
         ".yml", ".model",  # sentencepiece's
         ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".wav", ".flac", ".mp3",
         ".ogg", "license", "notice")  # fmt: skip


def fetch(origin: Hub, into: Path, temporary: Path) -> dict[str, str]:
    """Download what `files` selects, and check each file against the commit's list.

    Returns where the files came from. A wildcard skips what is neither PLAIN nor a packed PLAIN
    file (.csv.gz); a pattern that selects nothing plain is refused.
    """
    what = f"{origin.repo}@{origin.revision[:12]}"
    with _answers(what, min(LISTING, origin.seconds)):
        listed = _list(what, origin)
    chosen = [listed[name] for name in _choose(what, origin, listed)]
    _require_room(what, chosen, temporary)
    with tempfile.TemporaryDirectory(dir=temporary) as folder, _answers(what, origin.seconds):
        for file in chosen:
            _download(what, origin, file, Path(folder, "whole", file.rfilename))
        Path(folder, "whole").rename(into)  # into is empty: it gets all files or none
    facts = {"repo": origin.repo, "kind": origin.kind, "revision": origin.revision}
    endpoint = HfApi().endpoint
    return facts if endpoint == HOME else facts | {"endpoint": redact(endpoint)}


def commit(repo: str, kind: Literal["model", "dataset"], revision: str | None) -> str:
    """Return the commit (40 digits) that a branch or tag of a repo is at now.

    Without a revision it is that of the repo's main branch. Raises SourceError for what the hub
    refuses, UnreachableError if it does not answer.
    """
    what = f"{repo}@{revision or 'main'}"
    with _answers(what, LISTING):
        found = str(_ask(what, repo, kind, revision, files=False).sha)
    if not re.fullmatch("[0-9a-f]{40}", found):
        raise SourceError(f"{what}: the hub names no commit ({extract(found)}); check HF_ENDPOINT")
    return found


def _ask(what: str, repo: str, kind: str, revision: str | None, files: bool) -> Any:
    """Return what the hub says of a repo; its files have hashes and sizes if asked for."""
    try:
        return HfApi().repo_info(
            repo, revision=revision, repo_type=kind, timeout=SILENCE, files_metadata=files
        )
    except (ValueError, TypeError, KeyError, InvalidURL) as error:
        raise SourceError(
            f"{what}: a hub cannot be asked for it, or this is none "
            f"({redact(one_line(error, 200))}); check `repo` and HF_ENDPOINT"
        ) from None


def _list(what: str, origin: Hub) -> dict[str, RepoSibling]:
    info = _ask(what, origin.repo, origin.kind, origin.revision, files=True)
    if info.sha != origin.revision:
        raise SourceError(
            f"{what}: the hub answers with commit {extract(info.sha)}, not with {origin.revision}; "
            "check HF_ENDPOINT"
        )
    return {file.rfilename: file for file in getattr(info, "siblings", None) or ()}


def _require_room(what: str, chosen: list[RepoSibling], temporary: Path) -> None:
    size, free = sum(file.size or 0 for file in chosen), shutil.disk_usage(temporary).free
    if size > free:
        raise SourceError(
            f"{what}: `files` selects {size:,} bytes, "
            f"{free:,} are free on the disk of {temporary}; free some, or select less"
        )


def _choose(what: str, origin: Hub, listed: Iterable[str]) -> list[str]:
    plain = {name for name in listed if name.lower().removesuffix(".gz").endswith(PLAIN)}
    taken = {
        pattern: {name for name in plain if fnmatchcase(name, pattern)} for pattern in origin.files
    }
    chosen = sorted(set[str]().union(*taken.values()))
    if origin.kind == "model" and not any(name.endswith(".safetensors") for name in chosen):
        held = _some(name for name in listed if name not in plain or name.endswith(".safetensors"))
        raise SourceError(
            f"{what}: `files` selects no *.safetensors (it has {held}), "
            "and a pickle is never opened; name a commit with safetensors, "
            "or convert it with save_pretrained where you trust it"
        )
    if idle := [pattern for pattern, names in taken.items() if not names]:
        raise SourceError(
            f"{what}: {_some(idle)} selects no plain data (it has {_some(listed)}); "
            "mend `files`: pickles, code and archives are never fetched"
        )
    if odd := [name for name in chosen if not _is_plain(name)]:
        raise SourceError(
            f"{what}: {_some(odd)} is no name for a file of a source; leave it out of `files`"
        )
    return chosen


def _is_plain(name: str) -> bool:
    """Return whether a file of this name stays below a source, and is not Refit's note on it."""
    path = PurePosixPath(name)
    return (
        str(path) == name
        and not path.is_absolute()
        and ".." not in path.parts
        and name.isprintable()
        and name != "source.json"
    )


def _some(names: Iterable[str]) -> str:
    return one_line(", ".join(extract(name) for name in sorted(names)) or "nothing", 400)


def _download(what: str, origin: Hub, file: RepoSibling, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as whole:
        http_get(
            hf_hub_url(
                origin.repo, file.rfilename, repo_type=origin.kind, revision=origin.revision
            ),
            whole,
            headers=build_hf_headers(),
        )
    actual, stated = (
        (sha256(target), file.lfs.sha256)
        if file.lfs
        else (_git_sha1(target.read_bytes()), file.blob_id)
    )
    if actual != stated:
        raise SourceError(
            f"{what}: {file.rfilename} has the hash {actual}, the commit lists {extract(stated)}; "
            "find out who alters it if this stays"
        )


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(
        f"blob {len(content)}\0".encode() + content, usedforsecurity=False
    ).hexdigest()


@contextmanager
def _answers(what: str, seconds: float) -> Generator[None]:
    """Say in one line what the hub refuses, and stop after so many seconds.

    The time limit applies whatever the library waits for or tries again.
    """
    logging.set_verbosity_error()  # the library's lines on its retries are not ours
    if is_offline_mode():
        raise UnreachableError(
            f"{what}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it to ask a hub"
        )

    def stop(*_: object) -> None:
        raise UnreachableError(
            f"{what}: not done within {seconds:g} s; check the network and `seconds`"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(what, error) from None
    except HTTPError as error:
        text = redact(one_line(error, 200)) or type(error).__name__
        raise UnreachableError(
            f"{what}: the hub does not answer ({text}); check the network and HF_ENDPOINT"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _refusal(what: str, error: HfHubHTTPError) -> SourceError | UnreachableError:
    """Return the error of what a hub refuses, with the hub's own words."""
    status, text = error.response.status_code, redact(one_line(error.server_message or "", 200))
    later = status in (408, 429) or status >= 500
    advice = (
        "try again later"
        if later
        else "check `repo`, `kind` and `revision`; "
        "what is private or gated needs access granted on its page, and HF_TOKEN"
    )
    return (UnreachableError if later else SourceError)(
        f"{what}: the hub answers {status} ({text or 'and says no more'}); {advice}"
    )
