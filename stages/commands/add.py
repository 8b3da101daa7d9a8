"""Brings labelled data: looks at it, lets DVC track it, and writes a complete block of params.yaml for it."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from stages.commands import guess, reference, tracking, walk
from stages.contract import plugins, settings
from stages.contract.errors import DataError, ParamsError, SourceError, UnreachableError
from stages.contract.escape import extract, redact
from stages.contract.params import Folders, Hub, Params, Source, Table, Task

PARAMS = Path("params.yaml")
STARTER = Path(__file__).with_name("text_classification.yaml")
REMOTE = re.compile(r"(https?|s3|gs)://.")
HUB = re.compile(r"hub:([^@\s]+)(?:@(\S+))?")
ANSWER = 10  # seconds that a web server may take to answer
DOWNLOAD = 3600.0  # seconds for a source of the hub, written to params.yaml
STEPS, STEPS_PER_LABEL = 600, 30  # a small set is seen more often, and so is one of many labels
MOST_EPOCHS, FEWEST_EPOCHS = 20, 4


@dataclass(frozen=True)
class Added:
    """What was brought, seen and written. quarantined are rows that the reader or the modality refuses."""

    task: str
    layout: Table | Folders
    rows: int
    quarantined: int
    labels: dict[str, int]
    base: str
    block: str


def add(name: str, where: str, base: str | None, text: str | None, label: str | None) -> Added:
    """Bring a folder, a table, an address or a hub data set as the source and the task `name`.

    Data of one's own is looked at where it lies, before anything is written. Raises a RefitError that says what is
    wrong with the name, the data or its columns; what was brought for a task that cannot be is taken away again.
    """
    params = settings.load(PARAMS)
    local = not REMOTE.match(where) and not HUB.match(where)
    folder = Path("data/raw", name)
    fresh = not (local and Path(where).resolve() == folder.resolve())
    _require_name(name, params, folder, fresh)
    model, brought = _base(base, params)
    before = PARAMS.read_text("utf-8")
    try:
        if not local:
            _import(where, name, folder)
        lies = Path(where) if local else folder
        layout = guess.layout(lies if lies.is_dir() else lies.parent, walk.walk(lies).files, text, label)
        task, rows, labels = _task(lies, layout, name, model)
        if local:
            _track(lies, folder)
        _bring_base(brought, model)
        block = f"  {name}:\n{reference.block(task, 4)}"
        _write("tasks", block)
    except BaseException:
        _replace(before)
        if fresh:
            _take_away(folder)
        raise
    return Added(name, layout, rows, rows - sum(labels.values()), labels, model, block)


def _require_name(name: str, params: Params, folder: Path, fresh: bool) -> None:
    if not re.fullmatch("[a-z][a-z0-9_]{0,59}", name) or name in reference.YAML_WORDS:
        raise ParamsError(
            f"{extract(name)}: a name is a letter, then a-z, 0-9 and _ (60 at most, and no word of YAML), "
            "because DVC, MLflow and file systems bear that; choose another"
        )
    taken = [what for what, yes in (
        (f"params.yaml has a task {name}", name in params.tasks),
        (f"params.yaml has a source {name}", name in params.sources),
        (f"{folder} is there", fresh and (folder.exists() or folder.with_name(f"{name}.dvc").exists())),
    ) if yes]  # fmt: skip
    if taken:
        raise ParamsError(f"{name}: {' and '.join(taken)}; choose another name, or take the old one away first")


# ---- bringing --------------------------------------------------------------------------------------------------------


def _track(where: Path, folder: Path) -> None:
    """Copy a folder or a table to data/raw and let DVC track it there."""
    if where.resolve() != folder.resolve():
        walked = walk.walk(where)
        folder.parent.mkdir(parents=True, exist_ok=True)
        walk.require_space(walked.size, folder.parent)
        root, partial = where if where.is_dir() else where.parent, folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        for file in walked.files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, partial / file)
        partial.rename(folder)
    tracking.dvc("add", str(folder))


def _import(where: str, name: str, folder: Path) -> None:
    """Import an address with DVC, or a data set of a hub with the stage fetch."""
    if hub := HUB.match(where):
        _write("sources", f"  {name}:\n{reference.block(_hub('dataset', hub), 4)}")
        tracking.dvc("repro", f"fetch@{name}")
        return
    if urlsplit(where).password:
        raise SourceError(
            f"{redact(extract(where))}: holds a password, which data/raw/{name}.dvc would keep for all to read; set it up with `dvc remote` or .netrc"
        )
    file = re.sub("[^A-Za-z0-9._-]", "_", Path(urlsplit(where).path).name)
    if where.startswith("http"):
        _require_answer(where)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if guess.is_table(Path(file)):  # import-url would put the .dvc file into the folder, where it would be read as data
        tracked = folder.with_name(f"{name}.dvc")
        tracked.write_text(f"frozen: true\ndeps:\n- path: {json.dumps(where)}\nouts:\n- path: {name}/{file}\n", "utf-8")
        tracking.dvc("update", str(tracked))
    elif not where.startswith("http"):
        tracking.dvc("import-url", where, str(folder))
    if not folder.is_dir():
        raise DataError(
            f"{redact(extract(where))}: its name says no table ({', '.join(guess.TABLES)}, each but the last also as .gz), and it is no folder of a bucket"
        )


def _require_answer(address: str) -> None:
    """Raise at once for what DVC would wait on for ever: a server that refuses, lacks the file, or never answers."""
    import requests

    shown = redact(extract(address))
    try:
        with requests.get(address, stream=True, timeout=ANSWER) as answer:
            if answer.status_code in (401, 403):
                raise SourceError(f"{shown}: the server refuses it (HTTP {answer.status_code}); see that you may read it")
            if answer.status_code >= 400:
                raise SourceError(f"{shown}: HTTP {answer.status_code}; check the address")
    except requests.RequestException as error:
        raise UnreachableError(f"{shown}: no answer within {ANSWER} s ({type(error).__name__}); check address and network") from None


def _base(base: str | None, params: Params) -> tuple[str, Source | Path | None]:
    """Return the key of the base model, and what has to be brought for it: nothing where the source is there."""
    base = base or str(settings.read_yaml(STARTER)["base"])
    if base in params.sources or Path("data/raw", base, "config.json").is_file() or Path("data/raw", f"{base}.dvc").exists():
        return base, None
    hub, folder = HUB.match(base), Path(base)
    if not hub and not (folder / "config.json").is_file():
        have = ", ".join(sorted(params.sources)) or "none"
        raise SourceError(f"--base {extract(base)}: no source (have: {have}), no folder with a config.json, and not hub:OWNER/NAME@COMMIT")
    key = re.sub("[^a-z0-9_]+", "_", (hub[1] if hub else folder.resolve().name).rpartition("/")[2].lower())
    _require_name(key, params, Path("data/raw", key), fresh=True)
    return key, _hub("model", hub) if hub else folder


def _bring_base(brought: Source | Path | None, key: str) -> None:
    if isinstance(brought, Path):
        _track(brought, Path("data/raw", key))
    elif brought:
        _write("sources", f"  {key}:\n{reference.block(brought, 4)}")


def _hub(kind: Any, named: re.Match[str]) -> Source:
    if not re.fullmatch("[0-9a-f]{40}", named[2] or ""):
        raise SourceError(f"{extract(named[0])}: is not pinned: say hub:OWNER/NAME@COMMIT with the 40 digits of a commit, because a branch or a tag moves")
    origin = {"name": "hub", "kind": kind, "repo": named[1], "revision": named[2], "files": ["*"], "seconds": DOWNLOAD}
    return Source(TypeAdapter(Hub).validate_json(json.dumps(origin)), "as the card of the repo says")


def _take_away(folder: Path) -> None:
    folder.with_name(f"{folder.name}.dvc").unlink(missing_ok=True)
    for path in (folder, Path("data/fetch", folder.name)):
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


# ---- looking ---------------------------------------------------------------------------------------------------------


def _task(lies: Path, layout: Table | Folders, name: str, base: str) -> tuple[Task, int, dict[str, int]]:
    """Return the task for data that lies there, the number of its rows, and of good rows a label."""
    start = settings.read_yaml(STARTER)
    rows = plugins.layout(layout.name).read(lies if lies.is_dir() else lies.parent, layout, plugins.modality(start["modality"]["name"]))
    good = rows[rows["code"].isna() & (rows["y"].str.strip() != "") & (rows["x"].str.strip() != "")]
    labels = {str(label): int(number) for label, number in good["y"].value_counts().sort_index().items()}
    if not 2 <= len(labels) <= guess.MAX_LABELS:
        raise DataError(
            f"{extract(lies)}: {len(labels):,} labels in {len(good):,} good rows of {len(rows):,}, 2 to {guess.MAX_LABELS:,} can be learned; "
            "if that is the wrong column, say --label COLUMN"
        )
    most, fewest = max(labels.values()), min(labels.values())
    length, size = good["x"].str.len(), good["x"].map(lambda x: len(str(x).encode()))
    start["modality"] |= {
        "characters": [1, max(1000, 2 * int(length.max()))],
        "median_characters": [max(1, int(length.median()) // 3), 3 * int(length.median()) + 3],
        "max_tokens": min(256, 32 * (1 + int(size.quantile(0.98)) // 96)),  # three bytes a token, 2 % of the texts cut
    }
    start["data"] = {"source": name, "layout": json.loads(TypeAdapter(type(layout)).dump_json(layout))}
    start["base"] = base
    start["validate"] |= {
        "min_rows": max(1, len(good) * 8 // 10),
        "min_rows_per_label": max(3, fewest // 2),
        "max_label_ratio": float(max(10, 2 * -(-most // fewest))),
    }
    start["validate"]["label_distribution"]["weights"] = labels
    rounds = -(-(STEPS + STEPS_PER_LABEL * len(labels)) * start["finetune"]["batch_size"] // len(good))
    start["finetune"]["epochs"] = max(FEWEST_EPOCHS, min(MOST_EPOCHS, rounds))
    return TypeAdapter(Task).validate_json(json.dumps(start)), len(rows), labels


# ---- writing ---------------------------------------------------------------------------------------------------------


def _write(section: str, block: str) -> None:
    """Put a block at the end of a section of params.yaml; every other byte stays."""
    from ruamel.yaml import YAML

    text = PARAMS.read_text("utf-8")
    document = YAML(typ="safe", pure=True).compose(text)
    held = next(value for key, value in document.value if key.value == section)
    lines = text.splitlines(keepends=True)
    if held.value:
        at = max(value.end_mark.line for _, value in held.value)
        while at > 0 and (at > len(lines) or not lines[at - 1].strip() or lines[at - 1].startswith("#")):
            at -= 1
        lines[at - 1] = lines[at - 1].rstrip("\n") + "\n"
        changed = "".join([*lines[:at], "\n" if section == "tasks" else "", block, *lines[at:]])
    else:  # written as {}, which becomes a block
        comment, _, rest = text[held.end_mark.index :].partition("\n")
        changed = text[: held.start_mark.index].rstrip(" ") + comment.rstrip() + "\n" + block + rest
    _replace(changed)


def _replace(text: str) -> None:
    """Write params.yaml whole or not at all, and only if it can be read."""
    if PARAMS.read_text("utf-8") == text:
        return
    written = PARAMS.with_suffix(".yaml.new")
    written.write_text(text, "utf-8")
    try:
        settings.load(written)
        written.replace(PARAMS)
    finally:
        written.unlink(missing_ok=True)
