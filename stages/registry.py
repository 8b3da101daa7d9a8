"""Records candidates, their lineage, the champion and its history in MLflow, whose store stages/contract/store.py opens. No other module uses it.

A run holds parameters, metrics, history and data sets; the logged model holds model.json and model/ as finetune wrote
them, so their sha256 stays true; the alias `champion` names the version that serves, and tags of the registered model
hold every move of it. MLflow's own model loaders are never called: they import code out of the artifact. Where the
store is, is MLflow's to say (MLFLOW_TRACKING_URI).

MLflow's alias belongs to the last writer, so each change reads it again under a lock, and does nothing where it moved.
The lock is a file of this project's folder. Against other folders and machines that use the same server the second
reading narrows the window to milliseconds and does not close it: let their flows run one register at a time.
"""

import getpass
import hashlib
import json
import math
import os
import re
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.contract import receipts, store
from stages.contract.errors import ModelError, RegistryError
from stages.contract.escape import one_line
from stages.judging.ledger import Use

SHA256, DATA_MD5, LOCK_SHA256 = "refit.model_sha256", "refit.data_md5", "refit.dvc_lock_sha256"
RECORDING = "refit.recording"  # of a run: what is recorded with it, so that a registration that was cut off goes on
AGAINST, OUTCOME, WITHDRAWN = "refit.judged_against", "refit.outcome", "refit.withdrawn"
DECISION, DECISION_SHA256 = "refit.decision", "refit.decision_sha256"  # where the last decision.json lies, and its bytes
MOVE, USE = "refit.move.", "refit.use."  # and a number of six digits
OUTSIDE = "unknown, outside Refit"
MODEL = "model"


@dataclass(frozen=True)
class Version:
    """A registered model version; withdrawn says when, by whom and why it was, and is empty where it was not."""

    name: str
    number: int
    run_id: str
    sha256: str
    judged_against: str
    withdrawn: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Move:
    """One move of the alias `champion` between version numbers, null for none; when is UTC, as ISO 8601 writes it."""

    before: int | None
    after: int | None
    who: str
    when: str
    why: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"from": self.before, "to": self.after, "who": self.who, "when": self.when, "why": self.why}


@dataclass(frozen=True)
class Dataset:
    """What a run has read, in what role (raw, train, validation, test), DVC's hash of it, and its rows where they are a table."""

    name: str
    context: str
    md5: str
    rows: pd.DataFrame | None


@dataclass(frozen=True)
class Candidate:
    """All that is recorded of a model.

    folder holds model.json and model/; metrics are those of the test rows; history is a list of logs, each with its
    step; artifacts are files by the folder they go to; provenance is what each stage was made from.
    """

    name: str
    sha256: str
    folder: Path
    params: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    datasets: list[Dataset]
    artifacts: dict[str, list[Path]]
    provenance: dict[str, Any]
    tags: dict[str, str]


@dataclass(frozen=True)
class Verdict:
    """All that is recorded of a judgement.

    champion is the number of the version that held the alias when it was made, earlier how many uses of test rows were
    recorded then; description is Markdown; artifacts are files of one folder, decision.json first.
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


def champion(name: str) -> Version | None:
    """Return the version that the alias `champion` names, if there is one."""
    with store.opened() as client:
        return _look_up(client, name)


def find(name: str, sha256: str) -> Version | None:
    """Return the version that holds a model of these bytes, if there is one: registering again makes no second."""
    with store.opened() as client:
        return _find(client, name, sha256)


def version(name: str, number: str | None) -> Version:
    """Return a version by its number, or the champion; raises RegistryError, which names what there is, where there is none."""
    _require_store(name)
    with store.opened() as client:
        return _require(client, name, number)


def versions(name: str | None = None) -> list[Version]:
    """Return every version of a model, or of all models, in the order of their numbers."""
    if not store.exists():
        return []
    with store.opened() as client:
        return _search(client, f"name = '{name}'" if name else "")


def download(version: Version, into: Path) -> Path:
    """Copy a version's model.json and model/ below `into` and return that folder; the caller verifies the bytes.

    Raises ModelError where the registry has lost them.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with store.opened() as client:
        at, lost = client.get_model_version_download_uri(version.name, str(version.number)), None
        try:
            folder = Path(download_artifacts(artifact_uri=f"models:/{version.name}/{version.number}", dst_path=str(into)))
        except (MlflowException, FileNotFoundError) as error:
            if isinstance(error, MlflowException) and not store.is_absent(error):
                raise
            folder, lost = into, error
    if not (folder / "model.json").is_file():
        raise ModelError(
            f"{version.name}@{version.number}: the registry has lost its artifacts ({one_line(lost or f'nothing lies at {at}', 300)}); bring them back"
        )
    return folder


@contextmanager
def artifact(version: Version, name: str) -> Generator[Path | None]:
    """Yield a copy, for the time being, of a file that was logged with a version's run; null where the run has none of that name."""
    with TemporaryDirectory(prefix="refit-") as into:
        with store.opened() as client:
            copied = _copied(client, version.run_id, name, into)
        yield copied


def record(candidate: Candidate) -> Version:
    """Return the version that holds these bytes, or write a run, its data sets, the logged model and a new version.

    A failure leaves no version.
    """
    import mlflow

    name = candidate.name
    with store.opened() as client:
        if found := _find(client, name, candidate.sha256):
            store.require_run(client, found.run_id, f"{name}@{found.number}")
            return found
        experiment = store.once(lambda: store.require_experiment(client, name), lambda: client.create_experiment(name, store.artifact_location(name)))
        with mlflow.start_run(_run(client, experiment, candidate)) as run:
            mlflow.set_tags(candidate.tags)
            mlflow.log_params(flatten(candidate.params))
            datasets = {of.context: _dataset(of, candidate.tags["refit.data"]) for of in candidate.datasets}
            for context, dataset in datasets.items():
                mlflow.log_input(dataset, context=context)
            client.log_batch(run.info.run_id, metrics=_history(candidate.history))
            mlflow.log_dict(candidate.provenance, "lineage/provenance.json")
            for folder, paths in candidate.artifacts.items():
                for path in paths:
                    mlflow.log_artifact(str(path), folder)
            logged = store.once(
                lambda: _logged(client, experiment, run.info.run_id),
                lambda: mlflow.initialize_logged_model(MODEL, source_run_id=run.info.run_id, tags=candidate.tags, model_type="refit"),
            )
            client.log_model_artifact(logged.model_id, str(candidate.folder / "model.json"))
            client.log_model_artifacts(logged.model_id, str(candidate.folder / "model"), "model")
            mlflow.finalize_logged_model(logged.model_id, "READY")
            mlflow.log_metrics(flatten(candidate.metrics), dataset=datasets["test"], model_id=logged.model_id)
        store.once(lambda: store.if_there(lambda: client.get_registered_model(name)), lambda: client.create_registered_model(name))
        made = store.once(
            lambda: _find(client, name, candidate.sha256),
            lambda: _version(
                client.create_model_version(
                    name, f"models:/{logged.model_id}", run.info.run_id, tags=candidate.tags | {SHA256: candidate.sha256}, model_id=logged.model_id
                )
            ),
        )
        client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": made.number}])})
    return made


def _run(client: Any, experiment: str, candidate: Candidate) -> str:
    """Return the id of a new run or, where a registration of the same things was cut off, of the one that it had begun."""
    from mlflow.tracking.context import registry as context

    begun = {RECORDING: receipts.digest([candidate.sha256, candidate.params, candidate.tags, candidate.provenance])}

    def find() -> str | None:
        found = client.search_runs([experiment], f"tags.`{RECORDING}` = '{begun[RECORDING]}'", max_results=1)
        return found[0].info.run_id if found else None

    def make() -> str:
        return client.create_run(experiment, tags=context.resolve_tags(begun), run_name=candidate.sha256[:12]).info.run_id

    return store.once(find, make)


def _logged(client: Any, experiment: str, run_id: str) -> Any:
    """Return the logged model of a run, null where it has none yet."""
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'", max_results=1)
    return found[0] if found else None


def decide(verdict: Verdict) -> bool:
    """Record a verdict, its use of the test rows, and the move of the alias if it promotes; all under one lock.

    Returns False, with nothing of it written, where the verdict is not about what the registry holds now: another
    version is champion, test rows were used, or the candidate was withdrawn or brought back meanwhile. Then judge anew.
    """
    import mlflow

    version, paths = verdict.version, verdict.artifacts
    name, number = version.name, str(version.number)
    with store.opened() as client:
        champion, tags = _synchronised(client, name)
        store.require_run(client, version.run_id, f"{name}@{number}")
        now = champion, len(_uses(name, tags)), _require(client, name, number).withdrawn
        if now != (verdict.champion, verdict.earlier, version.withdrawn):
            return False
        folder = f"decisions/against_{verdict.against}_{receipts.digest(receipts.files(paths[0].parent, [p.name for p in paths]))[:8]}"
        for path in paths:
            mlflow.log_artifact(str(path), artifact_path=folder, run_id=version.run_id)
        if verdict.metrics:
            mlflow.log_metrics(verdict.metrics, run_id=version.run_id)
        _record_use(client, version, tags, verdict.use)
        decided = {OUTCOME: verdict.outcome, AGAINST: verdict.against, DECISION: f"{folder}/{paths[0].name}", DECISION_SHA256: receipts.sha256(paths[0])}
        for key, value in decided.items():
            client.set_model_version_tag(name, number, key, value)
            client.set_tag(version.run_id, key, value)
        client.update_model_version(name, number, verdict.description)
        if verdict.outcome == "promote" and champion != version.number:
            _move(client, name, tags, Move(champion, version.number, _who(), _now(), one_line(verdict.why, 500)))
    return True


def move(version: Version, champion: int | None, why: str, withdraw: bool) -> Move | None:
    """Move the alias to a version because a person says so; null, with nothing written, if it no longer names `champion`.

    withdraw marks the version that is left. A mark on the version reached is taken away, and the history keeps it.
    """
    name = version.name
    with store.opened() as client:
        held, tags = _synchronised(client, name)
        if held != champion:
            return None
        kept = f" (brought back: was withdrawn {version.withdrawn})" if version.withdrawn else ""
        made = Move(champion, version.number, _who(), _now(), one_line(why, 500) + kept)
        if withdraw and champion is not None:
            client.set_model_version_tag(name, str(champion), WITHDRAWN, f"{made.when} by {made.who}: {made.why}")
        if version.withdrawn:
            client.delete_model_version_tag(name, str(version.number), WITHDRAWN)
        _move(client, name, tags, made)
    return made


def history(name: str) -> list[Move]:
    """Return every move of the alias, the first one first; one made outside Refit since the last is recorded now."""
    _require_store(name)
    with store.opened() as client:
        _require_model(client, name)
        _synchronised(client, name)
        return _moves(name, client.get_registered_model(name).tags)


def uses(name: str) -> list[Use]:
    """Return the recorded uses of test rows by decisions on a model, the first one first.

    Raises RegistryError where the ids of one are lost: a set that was used must not pass for a fresh one.
    """
    if not store.exists():
        return []
    with store.opened() as client:
        made = _uses(name, _tags(client, name))
        rows = {document["rows"]: document["run_id"] for document in made}
        ids = {digest: _ids(client, name, run_id, digest) for digest, run_id in rows.items()}
    return [Use(document["candidate"], document["against"], ids[document["rows"]]) for document in made]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested document as one level with dotted keys; a dict whose keys are data stays a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and all(re.fullmatch("[a-z_][a-z0-9_]*", k) for k in value):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _look_up(client: Any, name: str, number: str | None = None) -> Version | None:
    """Return a version by its number or, without one, the champion, if there is such."""
    found = store.if_there(lambda: client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, store.ALIAS))
    return _version(found) if found else None


def _require(client: Any, name: str, number: str | None) -> Version:
    """Return a version by its number, or the champion; raises RegistryError, which names what there is."""
    if found := _look_up(client, name, number):
        return found
    if numbers := [of.number for of in _search(client, f"name = '{name}'")]:
        lacking = f"version {number}" if number else f"champion (say {name}@{numbers[-1]})"
        raise RegistryError(f"{name}: the registry has no {lacking}; it has: {', '.join(map(str, numbers))}")
    _require_model(client, name)
    raise RegistryError(f"{name}: the registry has no version of this model; run `dvc repro register@{name}` first")


def _require_model(client: Any, name: str) -> None:
    names = [model.name for model in client.search_registered_models()]
    if name not in names:
        raise RegistryError(f"{name}: the registry has no model of this name; it has: {', '.join(names) or 'none'}")


def _require_store(name: str) -> None:
    if not store.exists():
        raise RegistryError(f"{name}: there is no registry here; run `dvc repro register@{name}` first, or set MLFLOW_TRACKING_URI")


def _search(client: Any, wanted: str) -> list[Version]:
    """Return the versions that a filter of MLflow's finds, by model and number."""
    found, token = list[Any](), None
    while page := client.search_model_versions(wanted, page_token=token):
        found += page
        if not (token := page.token):
            break
    return sorted(map(_version, found), key=lambda of: (of.name, of.number))


def _find(client: Any, name: str, sha256: str) -> Version | None:
    found = _search(client, f"name = '{name}' and tags.`{SHA256}` = '{sha256}'")
    return found[0] if found else None


# ---- the history of the alias, and the ledger of test rows: numbered tags of the registered model ----------------------


def _tags(client: Any, name: str) -> dict[str, str]:
    """Return the tags of a registered model; none where there is no such model."""
    model = store.if_there(lambda: client.get_registered_model(name))
    return model.tags if model else {}


def _synchronised(client: Any, name: str) -> tuple[int | None, dict[str, str]]:
    """Return the champion's number and the model's tags, once a move of the alias that no tag tells of is recorded."""
    model = client.get_registered_model(name)
    champion = int(model.aliases[store.ALIAS]) if store.ALIAS in model.aliases else None
    moves = _moves(name, model.tags)
    last = moves[-1].after if moves else None
    if champion == last:
        return champion, model.tags
    _record_move(client, name, model.tags, Move(last, champion, OUTSIDE, _now(), "found then; made earlier, in MLflow itself"))
    return champion, client.get_registered_model(name).tags


def _move(client: Any, name: str, tags: dict[str, str], made: Move) -> None:
    """Move the alias, then record it: a crash between the two leaves a move that the next run finds."""
    client.set_registered_model_alias(name, store.ALIAS, str(made.after))
    _record_move(client, name, tags, made)


def _record_move(client: Any, name: str, tags: dict[str, str], made: Move) -> None:
    client.set_registered_model_tag(name, _next(tags, MOVE), json.dumps(made.document()))


def _moves(name: str, tags: dict[str, str]) -> list[Move]:
    return [Move(of["from"], of["to"], of["who"], of["when"], of["why"]) for of in _numbered(name, tags, MOVE, ("from", "to", "who", "when", "why"))]


def _uses(name: str, tags: dict[str, str]) -> list[dict[str, Any]]:
    return _numbered(name, tags, USE, ("candidate", "against", "rows", "run_id"))


def _record_use(client: Any, version: Version, tags: dict[str, str], use: Use) -> None:
    """Record a use of test rows, unless the same one stands there: repeating a stage is no new use."""
    ids = json.dumps(sorted(use.rows))
    document = {"candidate": use.candidate, "against": use.against, "rows": hashlib.sha256(ids.encode()).hexdigest()}
    if any(document.items() <= of.items() for of in _uses(version.name, tags)):
        return
    client.log_text(version.run_id, ids, f"ledger/{document['rows']}.json")
    client.set_registered_model_tag(version.name, _next(tags, USE), json.dumps(document | {"run_id": version.run_id}))


def _ids(client: Any, name: str, run_id: str, digest: str) -> frozenset[str]:
    """Return the ids of a use's test rows, whose digest must be right."""
    path = f"ledger/{digest}.json"
    with TemporaryDirectory(prefix="refit-") as into:
        copied = _copied(client, run_id, path, into)
        ids = json.loads(copied.read_bytes()) if copied and receipts.sha256(copied) == digest else None
    if ids is None:
        raise RegistryError(f"{name}: {path} of run {run_id} is gone or was changed; restore it: it says which test rows were used")
    return frozenset(ids)


def _copied(client: Any, run_id: str, name: str, into: str) -> Path | None:
    """Return a copy of a file that was logged with a run, if it has one of that name."""
    held = store.if_there(lambda: client.list_artifacts(run_id, name.rpartition("/")[0] or None)) or []
    copied = store.if_there(lambda: client.download_artifacts(run_id, name, into)) if name in [of.path for of in held] else None
    return Path(copied) if copied else None


def _numbered(name: str, tags: dict[str, str], prefix: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the JSON of the tags with a prefix, in the order of their numbers; a person may have edited them."""
    found = list[dict[str, Any]]()
    for tag in sorted(tag for tag in tags if tag.startswith(prefix)):
        try:
            document = json.loads(tags[tag])
            found.append({key: document[key] for key in keys})
        except (ValueError, LookupError, TypeError):
            raise RegistryError(f"{name}: the model's tag {one_line(tag, 80)} is not what Refit wrote; mend it in MLflow, or remove it") from None
    return found


def _next(tags: dict[str, str], prefix: str) -> str:
    numbers = [int(tag.removeprefix(prefix)) for tag in tags if re.fullmatch(re.escape(prefix) + "[0-9]{6}", tag)]
    return f"{prefix}{max(numbers, default=0) + 1:06}"


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user that has a number and no name
        return f"user {os.getuid()}@{socket.gethostname()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _dataset(dataset: Dataset, source: str) -> Any:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.data.sources import LocalArtifactDatasetSource  # pyright: ignore[reportAttributeAccessIssue]  (made when imported)

    at = LocalArtifactDatasetSource(source)
    if dataset.rows is None:
        return MetaDataset(at, name=dataset.name, digest=dataset.md5)
    return from_pandas(dataset.rows, source=at, name=dataset.name, digest=dataset.md5)


def _version(found: Any) -> Version:
    of = found.tags
    return Version(found.name, int(found.version), found.run_id, of.get(SHA256, ""), of.get(AGAINST, ""), of.get(WITHDRAWN, ""), of)


def _history(history: list[dict[str, float]]) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, int(entry["step"])) for entry in history for key, value in entry.items() if key != "step" and math.isfinite(value)]
