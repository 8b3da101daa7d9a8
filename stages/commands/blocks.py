"""Write a new block into params.yaml: every other byte stays, and the file can still be read."""

import json
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.commands import reference
from stages.contract import settings
from stages.contract.errors import ParamsError
from stages.contract.escape import extract
from stages.params.sources import Source
from stages.params.task import Params, Task

PARAMS = Path("params.yaml")


def require_name(name: str, params: Params, folder: Path, fresh: bool) -> None:
    """Raise ParamsError for a name that a new block cannot have.

    The folder of the data is not there yet if it is fresh.
    """
    if not re.fullmatch("[a-z][a-z0-9_]{0,59}", name) or name in reference.YAML_WORDS:
        raise ParamsError(
            f"{extract(name)}: a name is a letter, then a-z, 0-9 and _ (60 at most, and no word "
            "of YAML), because DVC, MLflow and file systems bear that; choose another"
        )
    there = folder.exists() or folder.with_name(f"{name}.dvc").exists()
    holders = {
        f"params.yaml has a task {name} (`--append` brings more of its rows)": name in params.tasks,
        f"params.yaml has a source {name}": name in params.sources,
        f"{folder} is there": fresh and there,
    }
    if taken := [what for what, yes in holders.items() if yes]:
        raise ParamsError(
            f"{name}: {' and '.join(taken)}; choose another name, or take the old one away first"
        )


def write(section: str, key: str, value: Task | Source) -> str:
    """Put a block at the end of a section of params.yaml and return the block."""
    text = PARAMS.read_bytes().decode()
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    text += "" if text.endswith("\n") else newline
    root = YAML(typ="safe", pure=True).compose(text)
    held = next(node for name, node in root.value if name.value == section)
    if held.value and held.flow_style:
        raise ParamsError(
            f"{PARAMS}: {section} is written in braces; write it as a block, a line a key, so "
            "that one can be added"
        )
    indent = held.value[0][0].start_mark.column if held.value else 2
    block = f"{' ' * indent}{key}:\n{reference.block(value, indent + 2)}"
    if indent == 2:
        block = _as_dvc_writes(section, block)
    block = block.replace("\n", newline)
    before = newline if section == "tasks" or not held.value else ""
    put_in = _appended if held.value else _opened
    _replace(put_in(text, held, before + block), section, key)
    return block


def _as_dvc_writes(section: str, block: str) -> str:
    """Return a block as `dvc exp run -S` will write it, which then changes one line and no other.

    DVC unfolds lists, leaves null out, and drops comments within lists.
    """
    return _rewritten(section, block, _unfold)


def _rewritten(section: str, block: str, change: Callable[[Any], None]) -> str:
    """Return a block after a change of its document, as DVC's writer writes it."""
    yaml, written = YAML(), StringIO()  # ruamel's round-trip reader builds no objects
    yaml.default_flow_style = False
    document = yaml.load(f"{section}:\n{block}")
    change(document[section])
    yaml.dump(document, written)
    return written.getvalue().partition("\n")[2]


def _unfold(node: Any) -> None:
    """Replace each list of a document, which ruamel would write as it was read."""
    for key, value in node.items():
        if isinstance(value, dict):
            _unfold(value)
        elif isinstance(value, list):
            node[key] = json.loads(json.dumps(value))


def extend(task: str, keys: Sequence[str], entries: list[Any]) -> None:
    """Put entries at the end of a list of a task's block; lines outside the block stay."""

    def longer(block: Any) -> None:
        for key in keys[:-1]:
            block = block[key]
        block[keys[-1]] = json.loads(json.dumps([*block[keys[-1]], *entries]))

    _edit(task, longer)


def change(task: str, section: str, values: dict[str, Any]) -> None:
    """Set the values of a section of a task's block that differ; lines outside the block stay."""

    def changed(block: Any) -> None:
        for key, value in values.items():
            if json.loads(json.dumps(block[section].get(key))) != value:
                block[section][key] = json.loads(json.dumps(value))

    _edit(task, changed)


def _edit(task: str, edited: Callable[[Any], None]) -> None:
    """Edit a task's block, which is written as DVC writes it: it keeps comments but those in lists.

    Every line outside the block stays.
    """
    text = PARAMS.read_bytes().decode()
    lines, (first, after) = text.split("\n"), _lines(text, "tasks", task)
    if not re.match(r"  \S", lines[first]):
        raise ParamsError(
            f"{PARAMS}: tasks.{task} is written with another indent than two spaces, which DVC "
            "writes; change its block by hand"
        )
    ending = "\r" if lines[first].endswith("\r") else ""
    old = "\n".join(line.removesuffix("\r") for line in lines[first:after]) + "\n"
    block = _rewritten("tasks", old, lambda section: edited(section[task]))
    lines[first:after] = [line + ending for line in block.removesuffix("\n").split("\n")]
    _replace("\n".join(lines), "tasks", task)


def remove(named: Sequence[tuple[str, str]]) -> None:
    """Take blocks (section, key) out of params.yaml in one write; every other byte stays."""
    text = PARAMS.read_bytes().decode()
    newline = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    text += "" if text.endswith("\n") else newline
    for section, key in named:
        text = without(text, section, key)
    _replace(text, *named[0])


def without(text: str, section: str, key: str) -> str:
    """Return the text, which ends with a line's end, without a block."""
    (name, held), (first, after) = _section(text, section), _lines(text, section, key)
    lines = text.split("\n")
    first -= not lines[first - 1].strip()  # the empty line that `write` puts before a block
    if len(held.value) == 1:
        head = name.start_mark.line
        lines[head] = lines[head].replace(":", ": {}", 1)
    return "\n".join(lines[:first] + lines[after:])


def _section(text: str, section: str) -> tuple[Any, Any]:
    """Return the nodes of a section's name and of what it contains."""
    root = YAML(typ="safe", pure=True).compose(text)
    name, held = next((name, node) for name, node in root.value if name.value == section)
    if held.flow_style:
        raise ParamsError(
            f"{PARAMS}: {section} is written in braces; write it as a block, a line a key, so "
            "that one of them can be changed"
        )
    return name, held


def _lines(text: str, section: str, key: str) -> tuple[int, int]:
    """Return the first line of a block, and the line after its last, both from 0."""
    _, held = _section(text, section)
    at = next(i for i, (of, _) in enumerate(held.value) if of.value == key)
    lines = text.split("\n")
    first, after = held.value[at][0].start_mark.line, held.end_mark.line
    if at + 1 < len(held.value):
        after = held.value[at + 1][0].start_mark.line
    while not lines[after - 1].strip() or lines[after - 1].lstrip().startswith("#"):
        after -= 1  # it belongs to what follows
    return first, after


def _appended(text: str, held: Any, block: str) -> str:
    """Return the text with a block after the last one of a section."""
    end = max(of.end_mark.index for _, of in held.value)
    lines = text[: end if text[end - 1] == "\n" else text.index("\n", end) + 1].split("\n")[:-1]
    while not lines[-1].strip() or lines[-1].startswith("#"):  # they belong to what follows
        lines.pop()
    at = len("\n".join(lines)) + 1
    return text[:at] + block + text[at:]


def _opened(text: str, held: Any, block: str) -> str:
    """Return the text with a block in a section that is written as {}, and becomes a block."""
    comment, _, rest = text[held.end_mark.index :].partition("\n")
    return text[: held.start_mark.index].rstrip(" ") + comment.rstrip() + block + rest


def _replace(text: str, section: str, key: str) -> None:
    """Write params.yaml, unless it could no longer be read with, or without, the block."""
    written = PARAMS.with_suffix(".yaml.new")
    written.write_bytes(text.encode())
    try:
        settings.load(written)
        written.replace(PARAMS)
    except ParamsError as error:
        raise ParamsError(
            f"changing {section}.{key}: {str(error).replace('.yaml.new', '.yaml')}; "
            "nothing was written"
        ) from None
    finally:
        written.unlink(missing_ok=True)
