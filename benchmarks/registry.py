"""Measure the registry: meeting promotions, rollback, lineage, impact, and a rebuilt champion.

It shows who wins when two promotions meet, the seconds of rollback, lineage and impact, and whether
a champion can be made anew. `races` and `seconds` register tiny models in a folder of their own;
`seconds --task TASK SOURCE` asks this project's registry; `rebuild --model MODEL` trains a version
of the model anew in a clean clone.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from stages.commands import impact, lineage, rollback, versions
from stages.contract import manifest, receipts, runner, settings
from stages.contract.history import Entry
from stages.judging import ledger
from stages.models import saved, scoring
from stages.models.saved import Saved
from stages.project import hashes
from stages.registry import candidate, decisions, recording, registered

TEXTS = Path("data/raw/texts")
BASE = saved.Base("base", "0" * 64)


def register(name: str, score: float, folder: Path, **tags: str) -> registered.Version:
    """Register a model of a few bytes with all that a run records; a tag has its score."""
    made = folder / f"{name}_{score}"
    (made / "model").mkdir(parents=True, exist_ok=True)
    (made / "model/model.safetensors").write_bytes(b"weights of " + str(score).encode())
    receipts.write_json(made / "model.json", {"score": score})
    data = tags.get("refit.data_md5", "0" * 32)
    lock = {f"validate@{name}": {"deps": [{"path": str(TEXTS), "md5": data}]}}
    receipts.write_json(made / "dvc_lock.json", lock)
    return recording.record(
        candidate.Candidate(
            name=name,
            sha256=scoring.identity(made),
            folder=made,
            described=Saved(name, {"name": "text"}, "classification", [], BASE, "", baseline={}),
            sample="a",
            params={"seed": 1},
            metrics={"macro_f1": score},
            history=[Entry(1.0, 1, {"loss": 0.5}, {})],
            datasets=[
                candidate.Dataset("texts", "test", data, pd.DataFrame({"x": ["a"], "y": ["b"]}))
            ],
            artifacts={"lineage": [made / "dvc_lock.json"]},
            provenance={
                "finetune": {"params": {"finetune": {"seed": 1}}, "versions": {"python": "3.11"}}
            },
            tags={
                "refit.data": str(TEXTS),
                "refit.dvc_lock_sha256": receipts.digest(lock),
                "score": str(score),
            }
            | tags,
        )
    )


def verdict(
    version: registered.Version,
    champion: registered.Version | None,
    earlier: int,
    outcome: str,
    ids: tuple[str, ...] = ("r1", "r2"),
) -> decisions.Verdict:
    """Return a verdict on a version, with a decision.json of its own."""
    against = f"version_{champion.number}" if champion else "baselines"
    folder = Path("decided", f"{version.name}_{version.number}_{against}")
    folder.mkdir(parents=True, exist_ok=True)
    receipts.write_json(
        folder / "decision.json",
        {"outcome": outcome, "against": against, "verdicts": [{"reason": "its score"}]},
    )
    use = ledger.Use(version.sha256, champion.sha256 if champion else against, frozenset(ids))
    held = champion.number if champion else None
    return decisions.Verdict(
        version,
        held,
        earlier,
        outcome,
        against,
        f"it beats {against}",
        use,
        "",
        [folder / "decision.json"],
        {},
    )


def judge(name: str, number: int, meanwhile: Callable[[], object] = lambda: None) -> int:
    """Judge a version by its score until the champion does not change, as register does.

    Returns the number of judgements. `meanwhile` is called in the first one.
    """
    times = 0
    while True:
        champion, earlier, version = (
            registered.champion(name),
            len(decisions.uses(name)),
            registered.version(name, str(number)),
        )
        better = not version.withdrawn and (champion is None or _score(version) > _score(champion))
        if times == 0:
            meanwhile()
        times += 1
        if decisions.decide(verdict(version, champion, earlier, "promote" if better else "reject")):
            return times


def races(tries: int, folder: Path) -> dict[str, Any]:
    """Let two processes judge two versions at the same time.

    Each reads the champion before the other decides; half of the models have a champion.
    """
    names = [f"race_{i}" for i in range(tries)]
    for i, name in enumerate(names):
        for score in (0.5, *((0.7, 0.9) if i % 4 < 2 else (0.9, 0.7))):
            register(name, score, folder)
        if i % 2:
            judge(name, 1)
    context = multiprocessing.get_context("spawn")
    barrier, ended = context.Barrier(2), context.Queue()
    racers = [
        context.Process(target=_race, args=(names, number, barrier, ended)) for number in (2, 3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    champions = [registered.champion(name) for name in names]
    moves = [decisions.history(name) for name in names]
    return {
        "tries": tries,
        "better_version_is_champion": sum(of is not None and _score(of) == 0.9 for of in champions),
        "processes_ended_cleanly": sum(racer.exitcode == 0 for racer in racers),
        "judged_anew": sum(ended.get() - tries for _ in racers),
        "moves_outside_refit": sum(move.who == decisions.OUTSIDE for of in moves for move in of),
    }


def _race(names: list[str], number: int, barrier: Any, ended: Any) -> None:
    ended.put(sum(judge(name, number, barrier.wait) for name in names))


def seconds(folder: Path) -> dict[str, float]:
    """Return the seconds of each command among 100 versions of a model, without imports."""
    TEXTS.mkdir(parents=True)
    for i in range(200):
        (TEXTS / f"{i}.txt").write_text(f"a text {i}")
    md5 = hashes.of(TEXTS)[0]
    for i in range(100):
        register("many", i / 100, folder, **{"refit.data_md5": md5})
    judge("many", 50)
    judge("many", 100)
    return {
        "lineage": _took(lambda: lineage.lineage("many@champion")),
        "impact_folder": _took(lambda: impact.impact(TEXTS)),
        "impact_file": _took(lambda: impact.impact(TEXTS / "7.txt")),
        "rollback": _took(lambda: rollback.rollback("many", None, "measured")),
    }


def of_task(task: str, source: str) -> dict[str, float]:
    """Return the seconds of lineage and impact for a task of this project."""
    registered.versions()  # opens the store, whose schema MLflow checks once in each process
    return {
        "lineage": _took(lambda: lineage.lineage(task)),
        "impact": _took(lambda: impact.impact(Path("data/raw", source))),
    }


def rebuild(model: str, into: Path) -> dict[str, Any]:
    """Train a version anew in a clean clone, and compare the model and its predictions.

    Clones the commit that the version was made at, and brings its data back. DVC's cache here
    serves as the clone's remote for what `dvc add` tracks; what fetch brings is fetched.
    """
    version, told = versions.find(model), lineage.lineage(model)
    name, clone = version.name, into / "clone"
    began = time.monotonic()
    _run(Path(), "git", "clone", "--quiet", ".", str(clone))
    _run(clone, "git", "checkout", "--quiet", told.commit)
    _run(clone, "dvc", "config", "--local", "core.site_cache_dir", str(clone / ".dvc/site"))
    if tracked := [str(path.relative_to(clone)) for path in clone.glob("data/raw/*.dvc")]:
        _run(
            clone,
            "dvc",
            "remote",
            "add",
            "--local",
            "--default",
            "here",
            str(Path(".dvc/cache").absolute()),
        )
        _run(clone, "dvc", "pull", "--quiet", *tracked)
    _run(clone, "dvc", "repro", "--no-run-cache", f"finetune@{name}")
    took, made = round(time.monotonic() - began), clone / "data/finetune" / name
    test, compute = (
        manifest.read(Path("data/split", name, "test.parquet")),
        settings.task(name).compute,
    )
    with tempfile.TemporaryDirectory() as folder:
        kept = scoring.predict(
            registered.download(version, Path(folder)), test, compute, version.sha256
        )
    again = scoring.predict(made, test, compute)
    return {
        "version": told.model,
        "commit": told.commit,
        "same_bytes": scoring.identity(made) == version.sha256,
        "test_rows": len(test),
        "same_labels": int((again["predicted"] == kept["predicted"]).sum()),
        "same_confidences": int((again["confidence"] == kept["confidence"]).sum()),
        "seconds": took,
    }


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _took(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return round(time.monotonic() - began, 3)


def _score(version: registered.Version) -> float:
    return float(version.tags["score"])


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("races", "seconds", "rebuild"))
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--model")
    parser.add_argument("--task", nargs=2, metavar=("TASK", "SOURCE"))
    arguments = parser.parse_args()
    runner.quiet()
    if arguments.task:
        print(json.dumps(of_task(*arguments.task), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "rebuild":
            print(json.dumps(rebuild(arguments.model, Path(folder)), indent=1))
            return
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        print(
            json.dumps(
                races(arguments.tries, Path(folder, "made"))
                if arguments.what == "races"
                else seconds(Path(folder, "made")),
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
