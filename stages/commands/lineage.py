"""Show what a registered version was made from, and verify that it is all still there.

Every input is compared byte for byte.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.commands import versions
from stages.contract import receipts
from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.project import hashes
from stages.registry import recording, registered
from stages.registry.registered import Version

LOCK, PROVENANCE, EXPECTATIONS = (
    "lineage/dvc_lock.json",
    "lineage/provenance.json",
    "lineage/expectations.json",
)


@dataclass(frozen=True)
class Data:
    """An input or a part, by DVC's hash.

    origin says where it came from, and places (workspace, cache, remote) where to get it.
    """

    path: str
    md5: str
    origin: str
    places: list[str]


@dataclass(frozen=True)
class Result:
    """What a version was made from.

    damaged names everything that is no longer what was recorded. What the run lacks is null or
    empty.
    """

    model: str
    run_id: str
    sha256: str
    withdrawn: str
    commit: str
    data: list[Data]
    lock: dict[str, Any]
    params: dict[str, Any]
    environment: dict[str, str]
    expectations: dict[str, int] | None
    decision: dict[str, Any] | None
    damaged: list[str]


def lineage(model: str) -> Result:
    """Read what was recorded about a version, and verify every sha256 and DVC hash in it.

    model is MODEL, MODEL@champion or MODEL@NUMBER.
    """
    version, damaged = versions.find(model), list[str]()
    lock = _lock(version, damaged)
    try:
        versions.require_whole(version)
    except ModelError as error:
        damaged.append(str(error))
    provenance = _read(version, PROVENANCE, damaged) or {}
    expectations, store = _expectations(version), hashes.store()
    return Result(
        model=f"{version.name}@{version.number}",
        run_id=version.run_id,
        sha256=version.sha256,
        withdrawn=version.withdrawn,
        commit=version.tags.get("refit.git_commit", "unknown"),
        data=[_data(path, md5, lock, store, damaged) for path, md5 in _inputs(lock).items()],
        lock=lock,
        params={
            key: value for stage in provenance.values() for key, value in stage["params"].items()
        },
        environment=provenance.get("finetune", {}).get("versions", {}),
        expectations=expectations,
        decision=_decision(version, damaged),
        damaged=damaged,
    )


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    return [found.model, *(f"  {one_line(line)}" for line in _facts(found))]


def _facts(found: Result) -> Iterator[str]:
    if found.withdrawn:
        yield f"withdrawn     {found.withdrawn}"
    yield f"model         sha256 {found.sha256}, run {found.run_id}"
    yield f"commit        {found.commit}"
    for item in found.data:
        places = ", ".join(item.places) or "nowhere here"
        yield f"data          {item.path} {item.md5}, {item.origin}; in: {places}"
    yield f"dvc.lock      {', '.join(found.lock) or 'no excerpt'}"
    number = len(recording.flatten(found.params))
    yield f"params        {', '.join(found.params)}: {number} values (all of them: --json)"
    libraries = ", ".join(f"{library} {number}" for library, number in found.environment.items())
    yield f"environment   {libraries}"
    yield f"expectations  {_met(found.expectations)}"
    yield f"decision      {_decided(found.decision)}"
    for fact in found.damaged:
        yield f"WRONG         {fact}"


def _met(expectations: dict[str, int] | None) -> str:
    if not expectations:
        return "not recorded"
    return f"{expectations['met']} met, {expectations['failed']} failed"


def _decided(decision: dict[str, Any] | None) -> str:
    if not decision:
        return "not recorded"
    reasons = "; ".join(verdict["reason"] for verdict in decision["verdicts"])
    return f"{decision['outcome']} against {decision['against']}: {reasons}"


def _lock(version: Version, damaged: list[str]) -> dict[str, Any]:
    """Return the excerpt of dvc.lock that was recorded, or nothing if it is gone or wrong."""
    sha256 = version.tags.get(registered.LOCK_SHA256)
    return _read(version, LOCK, damaged, lambda file: _is_excerpt(file, sha256)) or {}


def _expectations(version: Version) -> dict[str, int] | None:
    """Return how many expectations were met, and how many failed, if that was recorded."""
    checked = _read(version, EXPECTATIONS, None)
    met = sum(expectation["success"] for expectation in checked or ())
    return None if checked is None else {"met": met, "failed": len(checked) - met}


def _decision(version: Version, damaged: list[str]) -> dict[str, Any] | None:
    """Return the decision about the version, if there is one and it is not wrong."""
    name, sha256 = (
        version.tags.get(key) for key in (registered.DECISION, registered.DECISION_SHA256)
    )
    return (
        _read(version, name, damaged, lambda file: receipts.sha256(file) == sha256)
        if name
        else None
    )


def _read(
    version: Version,
    name: str,
    damaged: list[str] | None,
    right: Callable[[Path], bool] = lambda _: True,
) -> Any:
    """Return a JSON file of the version's run, or None if it is gone or wrong.

    A file that is gone or wrong is added to `damaged`, which is None if the file is optional.
    """
    with registered.artifact(version, name) as logged:
        if logged is None:
            fact = "is gone from the run that it was logged with"
        else:
            try:
                if right(logged):
                    return receipts.read_json(logged)
            except ValueError:
                pass  # no longer JSON
            fact = "is not what was logged: its bytes were changed"
        if damaged is not None:
            damaged.append(f"{version.name}@{version.number}: {name} {fact}")
        return None


def _is_excerpt(file: Path, sha256: str | None) -> bool:
    """Say whether a file is the excerpt of dvc.lock with this digest, byte for byte.

    The bytes are compared because the same JSON can be written in more than one way.
    """
    document = receipts.read_json(file)
    with TemporaryDirectory(prefix="refit-") as folder:
        again = Path(folder, "again.json")
        receipts.write_json(again, document)
        return receipts.digest(document) == sha256 and again.read_bytes() == file.read_bytes()


def _inputs(lock: dict[str, Any]) -> dict[str, str]:
    """Return {path: DVC's hash} for everything below data/raw, and for the parts.

    The hashes come from the excerpt of dvc.lock.
    """
    deps = [
        dep
        for stage in lock.values()
        for dep in stage.get("deps", ())
        if dep["path"].startswith("data/raw/")
    ]
    parts = [
        out
        for name, stage in lock.items()
        if name.startswith("split@")
        for out in stage["outs"]
        if out["path"].endswith(".parquet")
    ]
    return {entry["path"]: entry["md5"] for entry in (*deps, *parts)}


def _data(
    path: str, md5: str, lock: dict[str, Any], store: hashes.Store, damaged: list[str]
) -> Data:
    """Return where the data with a hash can be had from.

    A copy that has the hash and other bytes is added to `damaged`.
    """
    places, (whole, wrong) = list[str](), hashes.cached(store.cache, md5)
    if store.tracked.get(path) == md5 and Path(path).exists():
        if hashes.of(Path(path))[0] == md5:
            places.append("workspace")
        else:
            damaged.append(f"{path}: its bytes are not those of {md5}, which DVC tracks here")
    damaged += [
        f"{file}: its bytes are not those of its name, and {path} is restored from it; remove it"
        for file in wrong
    ]
    places += ["cache"] if whole else []
    places += ["a remote, which was not asked"] if store.remote else []
    return Data(path, md5, _origin(path, lock), places)


def _origin(path: str, lock: dict[str, Any]) -> str:
    """Return where data came from: fetch's origin, a stage, or the data that DVC tracks."""
    key, split = (
        path.rpartition("/")[2],
        next((name for name in lock if name.startswith("split@")), "split"),
    )
    if not path.startswith("data/raw/"):
        return f"made by {split}"
    for values in lock.get(f"fetch@{key}", {}).get("params", {}).values():
        origin = values.get(f"sources.{key}.origin", {})
        return "fetched: " + ", ".join(f"{name} {value}" for name, value in origin.items())
    return f"tracked by {path}.dvc"
