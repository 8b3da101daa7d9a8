"""Show what a registered version was made from, and verify that it is all still there.

Every input is compared byte for byte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.commands import versions
from stages.contract import receipts
from stages.contract.errors import ModelError
from stages.project import hashes
from stages.registry import candidate, registered

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
    version = versions.find(model)
    name, damaged = f"{version.name}@{version.number}", list[str]()
    tags = version.tags
    lock = (
        _read(
            version, LOCK, damaged, lambda file: _is_excerpt(file, tags.get(registered.LOCK_SHA256))
        )
        or {}
    )
    try:
        versions.require_whole(version)
    except ModelError as error:
        damaged.append(str(error))
    provenance, checked = (
        _read(version, PROVENANCE, damaged) or {},
        _read(version, EXPECTATIONS, None),
    )
    met, store = sum(expectation["success"] for expectation in checked or ()), hashes.store()
    decided = tags.get(registered.DECISION)
    return Result(
        model=name,
        run_id=version.run_id,
        sha256=version.sha256,
        withdrawn=version.withdrawn,
        commit=tags.get("refit.git_commit", "unknown"),
        data=[_data(path, md5, lock, store, damaged) for path, md5 in _inputs(lock).items()],
        lock=lock,
        params={
            key: value for stage in provenance.values() for key, value in stage["params"].items()
        },
        environment=provenance.get("finetune", {}).get("versions", {}),
        expectations=None if checked is None else {"met": met, "failed": len(checked) - met},
        decision=_read(
            version,
            decided,
            damaged,
            lambda file: receipts.sha256(file) == tags.get(registered.DECISION_SHA256),
        )
        if decided
        else None,
        damaged=damaged,
    )


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    decision, expectations = found.decision, found.expectations
    reasons = "; ".join(verdict["reason"] for verdict in decision["verdicts"]) if decision else ""
    return [
        *([f"withdrawn     {found.withdrawn}"] if found.withdrawn else []),
        f"model         sha256 {found.sha256}, run {found.run_id}",
        f"commit        {found.commit}",
        *(
            f"data          {item.path} {item.md5}, {item.origin}; "
            f"in: {', '.join(item.places) or 'nowhere here'}"
            for item in found.data
        ),
        f"dvc.lock      {', '.join(found.lock) or 'no excerpt'}",
        (
            f"params        {', '.join(found.params)}: "
            f"{len(candidate.flatten(found.params))} values (all of them: --json)"
        ),
        (
            "environment   "
            f"{', '.join(f'{library} {number}' for library, number in found.environment.items())}"
        ),
        f"expectations  {expectations['met']} met, {expectations['failed']} failed"
        if expectations
        else "expectations  not recorded",
        f"decision      {decision['outcome']} against {decision['against']}: {reasons}"
        if decision
        else "decision      not recorded",
        *(f"WRONG         {fact}" for fact in found.damaged),
    ]


def _read(
    version: registered.Version,
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
