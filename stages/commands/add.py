"""Bring labelled data: look at it, let DVC track it, and write a complete block of params.yaml."""

import json
import math
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML

from stages.checks import spelling, trial
from stages.commands import defaults, estimate, guess, reference
from stages.contract import characters, locks, plugins, settings, walk
from stages.contract.errors import DataError, ModelError, ParamsError, SourceError, UnreachableError
from stages.contract.escape import extract, one_line, redact
from stages.domain import profiles
from stages.layouts import table
from stages.modalities.image.reading import MOST_PIXELS
from stages.models import linear, loading
from stages.params.data import Folders, Table
from stages.params.finetune import Full, LinearProbe, RandomHead
from stages.params.image import ImageModality
from stages.params.sources import AsIs, Hub, Source
from stages.params.task import Params, Task
from stages.params.types import Encoding
from stages.project import tracking

PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
STARTERS = {
    "text": Path(__file__).with_name("text_classification.yaml"),
    "image": Path(__file__).with_name("image_classification.yaml"),
}
KNOWN = Path(__file__).with_name("sources.yaml")
# What a problem changes in a starter, which is a starter of classification.
PROBLEMS = Path(__file__).with_name("problems.yaml")
REMOTE = re.compile(r"(https?|s3|gs)://.+")
HUB = re.compile(r"hub:([^@\s]+)(?:@(\S+))?")
SECRET = re.compile(
    r"(?i)(^|[-_&]|api|auth|access)(sig|signature|token|secret|passw(or)?d|pwd|credential|key|auth|jwt|sas)[^=&]*="
)
ANSWER = 10  # seconds that a web server may take to answer
DOWNLOAD = 3600.0  # seconds for a whole source
MOST_BAD = 0.15  # of rows: more means another encoding or column, not a bad row here and there
FEWEST_ROWS = 3  # of a label: one for each part
LOOKED_AT = 2_000  # pictures
UNREAD = 0.05  # of the tokens: with more, the base is not for this language


@dataclass(frozen=True)
class Added:
    """What was seen, brought and written.

    read says what was taken for x and y; notes are what a person should know; chosen says which
    settings the data chose, and why; bad counts the rows that cannot be used; problem names what y
    was taken for, and of_y describes its values; unread lists the tables that were left aside;
    takes says how long a run takes.
    """

    task: str
    read: str
    notes: list[str]
    chosen: list[str]
    layout: Table | Folders
    encoding: Encoding
    rows: int
    bad: int
    problem: str
    of_y: str
    labels: dict[str, int]
    unread: list[str]
    base: str
    block: str
    takes: str


def add(
    name: str,
    where: str,
    base: str | None,
    x: str | None,
    y: str | tuple[str, ...] | None,
    problem: str | None = None,
) -> Added:
    """Bring a folder, a table, an address or a hub data set as the source and the task `name`.

    x and y are columns, and problem is what y is, if the user named them. The user's own data is
    looked at in its place, before anything is brought. Raises a RefitError that says what is wrong
    with the name, the data or its columns, and leaves everything as it was.
    """
    settings.load(PARAMS)  # fails before anything is made in a folder that is no project
    with locks.Lock(Path("data/.work/add")):
        params = settings.load(PARAMS)
        hub, remote, folder = HUB.fullmatch(where), REMOTE.fullmatch(where), Path("data/raw", name)
        fresh = bool(hub or remote) or Path(where).resolve() != folder.resolve()
        _require_name(name, params, folder, fresh)
        _require_problem(problem)
        model, brought = _base(base, params, name)
        with _all_or_nothing(
            [*([folder] if fresh else []), *([Path("data/raw", model)] if brought else [])]
        ):
            if hub:
                _fetch(name, _hub("dataset", hub))
            elif remote:
                _import(where, name, folder)
            lies = folder if hub or remote else Path(where)
            files = walk.walk(lies, hidden=not fresh).files
            layout = guess.layout(_root(lies), files, x, y)
            pictures = guess.of_pictures(_root(lies), layout)
            wanted = guess.wanted(_root(lies), files, layout, pictures)
            encoding = guess.encoding(_root(lies), layout, wanted)
            if pictures and lies.is_file() and isinstance(layout, Table):
                # the files that a table names belong to it
                wanted += guess.named_by(_root(lies), layout, encoding)
            start = settings.read_yaml(STARTERS["image" if pictures else "text"])
            task, facts = _task(lies, layout, encoding, name, model, start, problem)
            chosen = facts.chosen
            if not brought and not _is_source(task.base, params) and task.base in known():
                # the data chose the base, and dvc repro will fetch it
                _write("sources", task.base, known()[task.base])
            else:
                _require_base(task.base, params, brought)
            if isinstance(brought, Source):
                _fetch(model, brought)
            task = _tried(
                task, brought if isinstance(brought, Path) else Path("data/raw", task.base)
            )
            if not (hub or remote):
                _track(lies, folder, wanted)
            if isinstance(brought, Path):
                _track(brought, Path("data/raw", model), walk.walk(brought).files)
            measured = None
            if Path("data/raw", task.base).is_dir():
                samples = estimate.rows(task)
                measured = estimate.measure(task, samples)
                task, why = defaults.faster(task, start["slower"], len(samples), measured)
                chosen += why
            block = _write("tasks", name, task)
        unread = [file.as_posix() for file in files if guess.is_table(file) and file not in wanted]
        return Added(
            name,
            _read(layout, pictures),
            facts.notes,
            chosen,
            layout,
            encoding,
            facts.rows,
            facts.bad,
            task.problem.name,
            facts.of_y,
            facts.labels,
            unread,
            task.base,
            block,
            estimate.say(name, task, measured),
        )


def _require_problem(problem: str | None) -> None:
    if problem is not None and problem not in (
        available := ["classification", *settings.read_yaml(PROBLEMS)]
    ):
        raise ParamsError(
            f"--problem {extract(problem)}: is none; there are {', '.join(available)}"
        )


@contextmanager
def _all_or_nothing(made: list[Path]) -> Generator[None]:
    """Undo what was done if the block within fails.

    The folders that were made are removed, and params.yaml and dvc.lock are put back.
    """
    kept = {path: path.read_bytes() if path.exists() else None for path in (PARAMS, LOCK)}
    try:
        yield
    except BaseException:
        for path, content in kept.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                path.write_bytes(content)
        for folder in made:
            folder.with_name(f"{folder.name}.dvc").unlink(missing_ok=True)
            for path in (
                folder,
                _partial(folder),
                *(Path("data", of, folder.name) for of in ("fetch", ".work/fetch")),
            ):
                path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
        raise


def _require_name(name: str, params: Params, folder: Path, fresh: bool) -> None:
    if not re.fullmatch("[a-z][a-z0-9_]{0,59}", name) or name in reference.YAML_WORDS:
        raise ParamsError(
            f"{extract(name)}: a name is a letter, then a-z, 0-9 and _ (60 at most, and no word "
            "of YAML), because DVC, MLflow and file systems bear that; choose another"
        )
    taken = [
        what
        for what, yes in (
            (f"params.yaml has a task {name}", name in params.tasks),
            (f"params.yaml has a source {name}", name in params.sources),
            (
                f"{folder} is there",
                fresh and (folder.exists() or folder.with_name(f"{name}.dvc").exists()),
            ),
        )
        if yes
    ]
    if taken:
        raise ParamsError(
            f"{name}: {' and '.join(taken)}; choose another name, or take the old one away first"
        )


# ---- bringing ------------------------------------------------------------------------------------


def _root(lies: Path) -> Path:
    """Return the folder that file names are relative to: the data itself, or a table's folder."""
    return lies if lies.is_dir() else lies.parent


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _track(lies: Path, folder: Path, files: list[Path]) -> None:
    """Copy files of a folder, or one table, to data/raw, and let DVC track them there."""
    if lies.resolve() != folder.resolve():
        root, partial = _root(lies), _partial(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        walk.require_space(sum((root / file).stat().st_size for file in files), folder.parent)
        shutil.rmtree(partial, ignore_errors=True)
        for file in files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, partial / file)
        partial.rename(folder)
    tracking.dvc("add", str(folder))


def _fetch(key: str, source: Source) -> None:
    """Write a source and fetch it, so that an error in it shows now."""
    _write("sources", key, source)
    tracking.dvc("repro", f"fetch@{key}")


def _import(where: str, name: str, folder: Path) -> None:
    """Import an address with DVC.

    The file data/raw/NAME.dvc keeps the address for all to read, so it must not contain a secret.
    """
    shown = redact(extract(where.partition("?")[0]))
    try:
        address = urlsplit(where)
    except ValueError as error:
        raise SourceError(f"{shown}: is no address ({one_line(error, 100)})") from None
    if "@" in address.netloc or SECRET.search(address.query):
        raise SourceError(
            f"{shown}: holds a password or a key, which data/raw/{name}.dvc would keep for all to "
            "read; set it up with `dvc remote` or .netrc"
        )
    file = re.sub("[^A-Za-z0-9._-]", "_", Path(address.path).name)
    if where.startswith("http"):
        _require_answer(where, shown)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if guess.is_table(Path(file)):
        # import-url would put the .dvc file into the folder, and it would be read as data
        tracked = folder.with_name(f"{name}.dvc")
        tracked.write_text(
            f"frozen: true\ndeps:\n- path: {json.dumps(where)}\nouts:\n- path: {name}/{file}\n",
            "utf-8",
        )
        tracking.dvc("update", str(tracked), seconds=DOWNLOAD)
    elif not where.startswith("http"):
        tracking.dvc("import-url", where, str(folder), seconds=DOWNLOAD)
    if not folder.is_dir():
        raise DataError(
            f"{shown}: its name says no table ({', '.join(table.TABLES)}, each but the last also "
            "as .gz), and it is no folder of a bucket"
        )


def _require_answer(where: str, shown: str) -> None:
    """Raise if a server refuses an address, lacks the file, or never answers.

    DVC would wait for minutes instead.
    """
    import requests

    try:
        with requests.get(where, stream=True, timeout=ANSWER) as answer:
            if answer.status_code in (401, 403):
                raise SourceError(
                    f"{shown}: the server refuses it (HTTP {answer.status_code}); see that you "
                    "may read it"
                )
            if answer.status_code >= 400:
                raise SourceError(f"{shown}: HTTP {answer.status_code}; check the address")
    except (requests.RequestException, UnicodeError) as error:
        raise UnreachableError(
            f"{shown}: no answer within {ANSWER} s ({type(error).__name__}); check address and "
            "network"
        ) from None


def _base(base: str | None, params: Params, name: str) -> tuple[str, Source | Path | None]:
    """Return the key of the base model, and what has to be brought for it, if anything.

    Nothing has to be brought if the source is there. If no base was named, the key is empty,
    because the data decides which one it is.
    """
    hub, folder = HUB.fullmatch(base or ""), Path(base or "")
    available = not base or _is_source(base, params)
    source = None if available else known().get(base or "")
    if available or not (source or hub or (folder / "config.json").is_file()):
        _require_base(base or "", params, None) if base else None
        return base or "", None
    key = re.sub(
        "[^a-z0-9_]+", "_", (hub[1] if hub else folder.resolve().name).rpartition("/")[2].lower()
    )
    if key == name:
        raise ParamsError(
            f"{name}: is the name of the base model's source too; choose another name"
        )
    _require_name(key, params, Path("data/raw", key), fresh=True)
    return key, source or (_hub("model", hub) if hub else folder)


def known() -> dict[str, Source]:
    """Return the base models that can be named without being in params.yaml."""
    return TypeAdapter(dict[str, Source]).validate_json(json.dumps(settings.read_yaml(KNOWN)))


def _is_source(base: str, params: Params) -> bool:
    available = re.fullmatch("[a-z0-9_]+", base) and (
        Path("data/raw", base, "config.json").is_file() or Path("data/raw", f"{base}.dvc").exists()
    )
    return base in params.sources or bool(available)


def _require_base(base: str, params: Params, brought: Source | Path | None) -> None:
    if brought is None and not _is_source(base, params):
        have = ", ".join(sorted({*params.sources, *known()}))
        raise SourceError(
            f"--base {extract(base)}: no source (have: {have}), no folder with a config.json, and "
            "not hub:OWNER/NAME@COMMIT"
        )


def _hub(kind: Any, named: re.Match[str]) -> Source:
    if not re.fullmatch("[0-9a-f]{40}", named[2] or ""):
        raise SourceError(
            f"{extract(named[0])}: is not pinned: say hub:OWNER/NAME@COMMIT with the 40 digits of "
            "a commit, because a branch or a tag moves"
        )
    origin = {
        "name": "hub",
        "kind": kind,
        "repo": named[1],
        "revision": named[2],
        "files": ["*"],
        "seconds": DOWNLOAD,
    }
    try:
        return Source(
            TypeAdapter(Hub).validate_json(json.dumps(origin)),
            AsIs("as_is"),
            "as the card of the repo says",
        )
    except ValidationError:
        raise SourceError(
            f"{extract(named[0])}: is no repo of a hub; say hub:OWNER/NAME@COMMIT"
        ) from None


def _read(layout: Table | Folders, pictures: bool) -> str:
    """Say what was taken for x and y."""
    what = "pictures" if pictures else "texts"
    if isinstance(layout, Folders):
        return f"{what} ({', '.join(layout.suffixes)}), each labelled by the name of its folder"
    parted = f", fields parted by a {layout.dialect.delimiter}" if layout.dialect else ""
    files = ", ".join(extract(file.path) for file in layout.files[:5]) + (
        ", ..." if len(layout.files) > 5 else ""
    )
    names = "', '".join(map(extract, layout.columns.ys))
    labels = (
        f"labels of column '{names}'"
        if len(layout.columns.ys) == 1
        else f"a label each of columns '{names}'"
    )
    return f"{what} of column '{extract(layout.columns.x)}', {labels} of {files}{parted}"


# ---- looking -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was found in data.

    rows counts all rows, bad the bad ones, and labels the rows of each label; of_y is what y is,
    and notes and chosen are what to say about the data.
    """

    rows: int
    bad: int
    labels: dict[str, int]
    of_y: str
    notes: list[str]
    chosen: list[str]


def _task(
    lies: Path,
    layout: Table | Folders,
    encoding: Encoding,
    name: str,
    base: str,
    start: dict[str, Any],
    problem: str | None,
) -> tuple[Task, Found]:
    """Return the task for the data that is in `lies`, and what was found in it.

    start is a starter; problem is what the user says that y is.
    """
    of_x = plugins.modality(start["modality"]["name"])
    rows = plugins.layout(layout.name).read(_root(lies), layout, encoding, of_x)
    rows = rows[rows["code"] != "junk"].copy()
    empty = rows["code"].isna() & rows["x"].map(characters.is_blank).astype(bool)
    rows.loc[empty, ["code", "reason"]] = ["empty", "the sample is empty"]
    good = rows[rows["code"].isna()]
    why = _state_problem(
        start,
        good.loc[~good["y"].map(characters.is_blank).astype(bool), "y"],
        layout,
        extract(lies),
        problem,
    )
    stated, of_y = settings.problem(start["problem"]), plugins.problem(start["problem"]["name"])
    read = of_y.read(good["y"], stated)
    rows.loc[read.index, ["code", "reason"]] = read[["code", "reason"]]
    share, looked = float(rows["code"].notna().mean()), pd.DataFrame()
    if start["modality"]["name"] == "image" and share < 1:
        looked = _look(of_x, rows.loc[rows["code"].isna(), "x"])
        rows.loc[looked.index, ["code", "reason"]] = looked[["code", "reason"]]
        share += float(looked["code"].notna().mean())
    good, bad = rows[rows["code"].isna()], rows[rows["code"].notna()]
    noted = [
        f"left aside: {number:,} rows, {code} "
        f"(first {extract(of['origin'].iloc[0])}: {one_line(of['reason'].iloc[0], 150)})"
        for code, of in bad.groupby("code")
        if (number := len(of))
    ]
    if share > MOST_BAD:
        first = bad.iloc[0]
        raise DataError(
            f"{extract(lies)}: {len(bad):,} of {len(rows):,} rows cannot be used (first "
            f"{extract(first['origin'])}: {one_line(first['reason'], 200)}), at most "
            f"{MOST_BAD:.0%} may be; mend them, or name the columns: --text COLUMN --label COLUMN"
        )
    values = of_y.values(read.loc[good.index, "y"])
    borne = of_y.borne(values)
    labels = {
        str(label): int(number) for label, number in borne.value_counts().sort_index().items()
    }
    _require_learnable(values, labels, extract(lies))
    start["modality"] |= of_x.reading.suggest(
        good["x"], looked[looked["code"].isna()] if len(looked) else looked
    )
    start["data"] = {
        "source": name,
        "encoding": encoding,
        "layout": json.loads(TypeAdapter(type(layout)).dump_json(layout)),
    }
    start["base"] = base or start["base"]
    start["validate"] |= {
        # no more bad rows than there are now
        "max_bad_fraction": max(
            start["validate"]["max_bad_fraction"], math.ceil(100 * share + 1) / 100
        ),
        "min_rows": max(1, len(good) * 8 // 10),
    }
    if labels:
        most, fewest = max(labels.values()), min(labels.values())
        start["validate"] |= {
            "min_rows_per_label": max(FEWEST_ROWS, fewest // 2),
            "max_label_ratio": float(max(10, 2 * -(-most // fewest))),
        }
        start["validate"]["label_distribution"]["weights"] = labels
    one_label = stated.LABELS == "one"
    seen = defaults.look(
        good, borne, start["modality"]["name"] == "text", Path("data/raw", start["base"]), one_label
    )
    unread = (
        f"{start['base']} does not know {seen.unknown:.0%} of the tokens; --base e5 reads them"
        if base and (seen.unknown or 0) > UNREAD
        else None
    )
    chosen = [*filter(None, [why]), *defaults.apply(start, seen, bool(base))]
    if (profiles.FOLDER / f"{start['base']}.json").is_file():
        start["validate"]["domain"]["profile"] = start["base"]
    task = TypeAdapter(Task).validate_json(
        json.dumps({name: of for name, of in start.items() if name != "slower"})
    )
    return task, Found(
        len(rows),
        len(rows) - len(good),
        labels,
        _describe(values, labels),
        [*noted, *filter(None, [unread])],
        chosen,
    )


def _state_problem(
    start: dict[str, Any],
    y: "pd.Series[str]",
    layout: Table | Folders,
    where: str,
    problem: str | None,
) -> str:
    """Put into a starter what y is, as the user says or as its cells look.

    Return why, if that is not one label a row.
    """
    columns, changes = (
        len(layout.columns.ys) if isinstance(layout, Table) else 1,
        settings.read_yaml(PROBLEMS),
    )
    guessed, why = (
        ({"name": "classification", "labels": None}, None)
        if problem
        else guess.problem(y, columns, where)
    )
    name = problem or guessed["name"]
    if name not in changes:
        return ""
    defaults.merge(start, changes[name])
    if problem is None:
        start["problem"] = guessed
        return (
            f"{why}: any number of labels is learned a row; --problem classification takes a cell "
            "as one label"
        )
    if name == "multi_label" and (several := guess.separated(y)):
        start["problem"]["separator"] = several[0]
    return ""


def _require_learnable(values: "pd.Series[Any]", labels: dict[str, int], where: str) -> None:
    """Raise DataError if values are too few, too many, too rare or too much alike to be learned."""
    if not labels and values.nunique() < 2:
        raise DataError(
            f"{where}: every number is the same; if that is the wrong column, say --label COLUMN"
        )
    if labels and not 2 <= len(labels) <= guess.MAX_LABELS:
        raise DataError(
            f"{where}: {len(labels):,} labels in {len(values):,} good rows, 2 to "
            f"{guess.MAX_LABELS:,} can be learned; if that is the wrong column, say --label COLUMN"
        )
    rare = [
        f"{extract(label)} ({number})" for label, number in labels.items() if number < FEWEST_ROWS
    ]
    if rare:
        raise DataError(
            f"{where}: {len(rare):,} of {len(labels):,} labels have fewer than {FEWEST_ROWS} "
            f"rows, one for train, validation and test: {', '.join(rare[:5])}; add rows, leave "
            "the label out, or say --label COLUMN"
        )
    if alike := spelling.clashes(list(labels)):
        raise DataError(f"{where}: {'; '.join(alike)}")


def _describe(values: "pd.Series[Any]", labels: dict[str, int]) -> str:
    """Return what y is, for a person: its labels, the most frequent first, or its numbers."""
    if not labels:
        return f"numbers from {values.min():g} to {values.max():g}, {values.mean():.3g} in the mean"
    shown = sorted(labels.items(), key=lambda item: -item[1])[:5]
    return (
        f"{len(labels)} labels "
        f"({', '.join(f'{one_line(key, 30)} {number:,}' for key, number in shown)}"
        f"{', ...' if len(labels) > 5 else ''})"
    )


def _tried(task: Task, folder: Path) -> Task:
    """Return the task with sizes and a start of the head that its base model takes.

    The task stays as it is if the base model is not here. Raises ModelError if it cannot be
    trained.
    """
    if not folder.is_dir():
        return task
    of_y = plugins.problem(task.problem.name)
    task = replace(
        task,
        modality=trial.fitting(folder, plugins.modality(task.modality.name), of_y, task.modality),
    )
    try:
        linear.head(*loading.load(of_y, folder, task.modality.name, trial.LABELS, new_head=True))
    except ModelError:  # the head has several new layers, and none of them can be solved
        tune = (
            Full("full", True)
            if isinstance(task.finetune.tune, LinearProbe)
            else task.finetune.tune
        )
        task = replace(task, finetune=replace(task.finetune, head=RandomHead("random"), tune=tune))
    return task


def _look(of_x: Any, x: "pd.Series[str]") -> pd.DataFrame:
    """Look at up to LOOKED_AT of the pictures."""
    return of_x.reading.look(
        x.iloc[:: -(-len(x) // LOOKED_AT)],
        ImageModality("image", (1, 65_535), MOST_PIXELS, (1, 65_535), 1, 1, ("as_is",)),
    )


# ---- writing -------------------------------------------------------------------------------------


def _write(section: str, key: str, value: Task | Source) -> str:
    """Put a block at the end of a section of params.yaml and return the block.

    Every other byte stays, and the file can still be read.
    """
    text = PARAMS.read_bytes().decode()
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    text += "" if text.endswith("\n") else newline
    held = next(
        node
        for name, node in YAML(typ="safe", pure=True).compose(text).value
        if name.value == section
    )
    if held.value and held.flow_style:
        raise ParamsError(
            f"{PARAMS}: {section} is written in braces; write it as a block, a line a key, so "
            "that one can be added"
        )
    indent = held.value[0][0].start_mark.column if held.value else 2
    block = f"{' ' * indent}{key}:\n{reference.block(value, indent + 2)}".replace("\n", newline)
    if held.value:
        end = max(of.end_mark.index for _, of in held.value)
        lines = text[: end if text[end - 1] == "\n" else text.index("\n", end) + 1].split("\n")[:-1]
        while not lines[-1].strip() or lines[-1].startswith("#"):  # they belong to what follows
            lines.pop()
        at = len("\n".join(lines)) + 1
        changed = text[:at] + (newline if section == "tasks" else "") + block + text[at:]
    else:  # the section is written as {}, and becomes a block
        comment, _, rest = text[held.end_mark.index :].partition("\n")
        changed = (
            text[: held.start_mark.index].rstrip(" ") + comment.rstrip() + newline + block + rest
        )
    written = PARAMS.with_suffix(".yaml.new")
    written.write_bytes(changed.encode())
    try:
        settings.load(written)
        written.replace(PARAMS)
    except ParamsError as error:
        raise ParamsError(
            f"with {section}.{key}, {str(error).replace('.yaml.new', '.yaml')}; nothing was written"
        ) from None
    finally:
        written.unlink(missing_ok=True)
    return block
