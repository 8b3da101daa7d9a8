"""Record decisions, move the champion, and keep the history of both.

The history is in numbered tags of the registered model. MLflow's alias belongs to its last writer,
so each change reads it again under a lock, and does nothing if it has moved. The lock is a file in
this project's folder. Against other folders and machines that use the same server, the second
reading narrows the window to milliseconds and does not close it: let their flows run one register
at a time.
"""

import getpass
import hashlib
import json
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.contract import location, receipts, store
from stages.contract.errors import RegistryError
from stages.contract.escape import one_line
from stages.judging.ledger import Use
from stages.registry import registered
from stages.registry.registered import Version

MOVE, USE = "refit.move.", "refit.use."  # each is followed by a number of six digits
LINES = {  # how each tag is written, for people who see it in MLflow
    MOVE: "{when}: from version {from} to {to}, by {who}: {why}",
    USE: "candidate {candidate} against {against} on test rows {rows}, run {run_id}",
}
WORDS = {
    "from": "none|[0-9]+",
    "to": "none|[0-9]+",
    "who": "[^:]*",
    "why": ".*",
}  # others: one word
OUTSIDE = "unknown, outside Refit"


@dataclass(frozen=True)
class Move:
    """One move of the alias `champion` between version numbers, null for none.

    when is UTC, as ISO 8601 writes it.
    """

    before: int | None
    after: int | None
    who: str
    when: str
    why: str

    def document(self) -> dict[str, Any]:
        """Return the move as JSON."""
        versions = {"from": self.before, "to": self.after}
        return versions | {"who": self.who, "when": self.when, "why": self.why}

    def line(self) -> str:
        """Return the move as its tag has it."""
        versions = {
            key: "none" if of is None else of
            for key, of in (("from", self.before), ("to", self.after))
        }
        who, why = self.who.replace(":", " "), one_line(self.why)
        return LINES[MOVE].format(**versions, who=who, when=self.when, why=why)


@dataclass(frozen=True)
class Verdict:
    """Everything that is recorded of a judgement.

    champion is the number of the version that had the alias when the judgement was made, earlier is
    how many uses of test rows were recorded then; description is Markdown; artifacts are files of
    one folder, decision.json first.
    """

    version: Version
    champion: int | None
    earlier: int
    outcome: str
    against: str
    why: str
    use: Use
    description: str
    artifacts: list[Path]
    metrics: dict[str, float]


def decide(verdict: Verdict) -> bool:
    """Record a verdict, its use of the test rows, and the move of the alias if it promotes.

    All of it is done under one lock. Returns False, with nothing written, if the verdict is not
    about what the registry has now: another version is champion, test rows were used, or the
    candidate was withdrawn or brought back meanwhile. Judge anew in that case.
    """
    version, name, number = verdict.version, verdict.version.name, str(verdict.version.number)
    with store.opened() as client:
        champion, tags = _synchronised(client, name)
        store.require_run(client, version.run_id, f"{name}@{number}")
        now = champion, len(_uses(name, tags)), registered.require(client, name, number).withdrawn
        if now != (verdict.champion, verdict.earlier, version.withdrawn):
            return False
        folder = _log(verdict)
        _record_use(client, version, tags, verdict.use)
        _mark(client, verdict, folder)
        if verdict.outcome == "promote" and champion != version.number:
            made = Move(champion, version.number, _who(), _now(), one_line(verdict.why, 500))
            _move(client, name, tags, made)
    return True


def _log(verdict: Verdict) -> str:
    """Log a verdict's files and metrics with the version's run; return the folder of the files."""
    import mlflow

    paths, run_id = verdict.artifacts, verdict.version.run_id
    digest = receipts.digest(receipts.files(paths[0].parent, [path.name for path in paths]))
    folder = f"decisions/against_{verdict.against}_{digest[:8]}"
    for path in paths:
        mlflow.log_artifact(str(path), artifact_path=folder, run_id=run_id)
    if verdict.metrics:
        mlflow.log_metrics(verdict.metrics, run_id=run_id)
    return folder


def _mark(client: Any, verdict: Verdict, folder: str) -> None:
    """Write into the tags of version and run what was decided, and where its files are."""
    version, decision = verdict.version, verdict.artifacts[0]
    name, number = version.name, str(version.number)
    decided = {
        registered.OUTCOME: verdict.outcome,
        registered.AGAINST: verdict.against,
        registered.DECISION: f"{folder}/{decision.name}",
        registered.DECISION_SHA256: receipts.sha256(decision),
    }
    for key, value in decided.items():
        client.set_model_version_tag(name, number, key, value)
        client.set_tag(version.run_id, key, value)
    client.update_model_version(name, number, verdict.description)


def move(version: Version, champion: int | None, why: str, withdraw: bool) -> Move | None:
    """Move the alias to a version because a person says so.

    Returns null, with nothing written, if the alias no longer names `champion`. withdraw marks the
    version that the alias leaves. A mark on the version that it reaches is removed, and the history
    keeps it.
    """
    name = version.name
    with store.opened() as client:
        held, tags = _synchronised(client, name)
        if held != champion:
            return None
        kept = f" (brought back: was withdrawn {version.withdrawn})" if version.withdrawn else ""
        made = Move(champion, version.number, _who(), _now(), one_line(why, 500) + kept)
        if withdraw and champion is not None:
            client.set_model_version_tag(
                name, str(champion), registered.WITHDRAWN, f"{made.when} by {made.who}: {made.why}"
            )
        if version.withdrawn:
            client.delete_model_version_tag(name, str(version.number), registered.WITHDRAWN)
        _move(client, name, tags, made)
    return made


def history(name: str) -> list[Move]:
    """Return every move of the alias, the first one first.

    A move made outside Refit since the last one is recorded now.
    """
    registered.require_store(name)
    with store.opened() as client:
        registered.require_model(client, name)
        _synchronised(client, name)
        return _moves(name, client.get_registered_model(name).tags)


def uses(name: str) -> list[Use]:
    """Return the recorded uses of test rows by decisions on a model, the first one first.

    Raises RegistryError if the ids of one are lost: a set that was used must not pass for a fresh
    one.
    """
    if not location.exists():
        return []
    with store.opened() as client:
        made = _uses(name, _tags(client, name))
        rows = {document["rows"]: document["run_id"] for document in made}
        ids = {digest: _ids(client, name, run_id, digest) for digest, run_id in rows.items()}
    return [
        Use(document["candidate"], document["against"], ids[document["rows"]]) for document in made
    ]


def _tags(client: Any, name: str) -> dict[str, str]:
    """Return the tags of a registered model; empty if there is no model of this name."""
    model = store.if_there(lambda: client.get_registered_model(name))
    return model.tags if model else {}


def _synchronised(client: Any, name: str) -> tuple[int | None, dict[str, str]]:
    """Return the champion's number and the model's tags.

    If the alias was moved and no tag records it, the move is recorded first.
    """
    model = client.get_registered_model(name)
    champion = int(model.aliases[store.ALIAS]) if store.ALIAS in model.aliases else None
    moves = _moves(name, model.tags)
    last = moves[-1].after if moves else None
    if champion == last:
        return champion, model.tags
    _record_move(
        client,
        name,
        model.tags,
        Move(last, champion, OUTSIDE, _now(), "found then; made earlier, in MLflow itself"),
    )
    return champion, client.get_registered_model(name).tags


def _move(client: Any, name: str, tags: dict[str, str], made: Move) -> None:
    """Move the alias, then record the move.

    A crash between the two leaves a move that the next run finds.
    """
    client.set_registered_model_alias(name, store.ALIAS, str(made.after))
    _record_move(client, name, tags, made)


def _record_move(client: Any, name: str, tags: dict[str, str], made: Move) -> None:
    client.set_registered_model_tag(name, _next(tags, MOVE), made.line())


def _moves(name: str, tags: dict[str, str]) -> list[Move]:
    return [
        Move(
            _version(entry["from"]),
            _version(entry["to"]),
            entry["who"],
            entry["when"],
            entry["why"],
        )
        for entry in _numbered(name, tags, MOVE)
    ]


def _version(number: str) -> int | None:
    return None if number == "none" else int(number)


def _uses(name: str, tags: dict[str, str]) -> list[dict[str, str]]:
    return _numbered(name, tags, USE)


def _record_use(client: Any, version: Version, tags: dict[str, str], use: Use) -> None:
    """Record a use of test rows unless it is recorded already: repeating a stage is no new use."""
    ids = json.dumps(sorted(use.rows))
    document = {
        "candidate": use.candidate,
        "against": use.against,
        "rows": hashlib.sha256(ids.encode()).hexdigest(),
    }
    if any(document.items() <= entry.items() for entry in _uses(version.name, tags)):
        return
    client.log_text(version.run_id, ids, f"ledger/{document['rows']}.json")
    line = LINES[USE].format(**document, run_id=version.run_id)
    client.set_registered_model_tag(version.name, _next(tags, USE), line)


def _ids(client: Any, name: str, run_id: str, digest: str) -> frozenset[str]:
    """Return the ids of a use's test rows, whose digest must be right."""
    path = f"ledger/{digest}.json"
    with TemporaryDirectory(prefix="refit-") as into:
        copied = registered.copied(client, run_id, path, into)
        ids = (
            json.loads(copied.read_bytes())
            if copied and receipts.sha256(copied) == digest
            else None
        )
    if ids is None:
        raise RegistryError(
            f"{name}: {path} of run {run_id} is gone or was changed; "
            "restore it: it says which test rows were used"
        )
    return frozenset(ids)


def _numbered(name: str, tags: dict[str, str], prefix: str) -> list[dict[str, str]]:
    """Return what the tags with a prefix say, in the order of their numbers.

    A person may have edited them.
    """
    documents = list[dict[str, str]]()
    for tag in sorted(tag for tag in tags if tag.startswith(prefix)):
        try:
            documents.append(_fields(LINES[prefix], tags[tag]))
        except (ValueError, LookupError, TypeError):
            raise RegistryError(
                f"{name}: the model's tag {one_line(tag, 80)} is not what Refit wrote; "
                "mend it in MLflow, or remove it"
            ) from None
    return documents


def _fields(line: str, text: str) -> dict[str, str]:
    """Return the fields of a line that was filled in; earlier versions of Refit wrote JSON.

    Raises ValueError, LookupError or TypeError if it is neither.
    """
    names = re.findall(r"\{(\w+)\}", line)
    if text.startswith("{"):
        document = json.loads(text)
        return {key: "none" if document[key] is None else str(document[key]) for key in names}
    pattern = re.escape(line)
    for key in names:
        pattern = pattern.replace(rf"\{{{key}\}}", f"(?P<{key}>{WORDS.get(key, '[^ ]+')})")
    if (found := re.fullmatch(pattern, text)) is None:
        raise ValueError(text)
    return found.groupdict()


def _next(tags: dict[str, str], prefix: str) -> str:
    numbers = [
        int(tag.removeprefix(prefix))
        for tag in tags
        if re.fullmatch(re.escape(prefix) + "[0-9]{6}", tag)
    ]
    return f"{prefix}{max(numbers, default=0) + 1:06}"


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user can have a number and no name
        return f"user {os.getuid()}@{socket.gethostname()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
