"""Read params.yaml: plain YAML 1.2 without tricks.

Every value is checked, and one error names all mistakes.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from stages.contract.errors import ParamsError
from stages.contract.escape import extract, one_line
from stages.params.problems import Problem
from stages.params.task import Params, Task

MAX_BYTES = 1_000_000  # of params.yaml: more is an accident or an attack
MAX_DEPTH = 20


def read_yaml(path: Path, limit: int = MAX_BYTES) -> Any:
    """Read YAML 1.2 as DVC reads it; tags, anchors, aliases and repeated keys are errors.

    With an anchor or alias `dvc exp run -S` exits 0 and changes nothing, so they are refused and
    not resolved.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise ParamsError(
                f"{path}: {size:,} bytes, at most {limit:,} are read; move data out of it"
            )
        text = path.read_text("utf-8")
        _refuse_tricks(path, text)
        return YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: there is no such file here; run from the project's root"
        ) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(
            f"{path}: not plain YAML 1.2 ({one_line(' '.join(str(error).split()), 300)})"
        ) from None


def _refuse_tricks(path: Path, text: str) -> None:
    """Raise ParamsError for what is no plain YAML: depth, anchors, aliases and tags."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        place = f"{path}:{event.start_mark.line + 1}"
        if depth > MAX_DEPTH:
            raise ParamsError(f"{place}: more than {MAX_DEPTH} levels deep; nothing here is")
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise ParamsError(
                f"{place}: a YAML anchor or alias, which `dvc exp run -S` cannot set; write it out"
            )
        if getattr(event, "tag", None):
            raise ParamsError(f"{place}: a YAML tag; write the plain value")


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check all of params.yaml.

    Raises one ParamsError that names every mistake with its path.
    """
    document = _with_text_keys(read_yaml(path))
    try:
        params = TypeAdapter(Params).validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise _all_of(
            path, [f"{_place(e['loc'], document)}: {_say(e)}" for e in error.errors()]
        ) from None
    if missing := _missing(params, path.parent / "data/raw"):
        raise _all_of(path, missing)
    return params


def _missing(params: Params, raw: Path) -> list[str]:
    """Return a line for each place of a task that names a source that is nowhere."""
    return [
        f"tasks.{key}.{place}: there is no source '{name}'; "
        f"have: {', '.join(sorted(params.sources)) or 'none'}, "
        f"or bring it with `dvc add data/raw/{name}`"
        for key, task in params.tasks.items()
        for place, name in task.sources.items()
        if name not in params.sources and not any((raw / n).exists() for n in (name, f"{name}.dvc"))
    ]


def task(key: str) -> Task:
    """Return a task of params.yaml; raises ParamsError, which names the tasks that exist."""
    tasks = load().tasks
    if key not in tasks:
        raise ParamsError(
            f"params.yaml: there is no task '{extract(key)}'; have: {', '.join(tasks) or 'none'}"
        )
    return tasks[key]


def problem(section: dict[str, Any]) -> Any:
    """Return a problem's settings from JSON, checked like the settings in params.yaml."""
    return TypeAdapter(Annotated[Problem, Field(discriminator="name")]).validate_json(
        json.dumps(section)
    )


def as_json(section: Any) -> str:
    """Return settings as the JSON that a type of params/ is read from."""
    return json.dumps(section, default=str)


def is_key(name: str) -> bool:
    """Return whether a name is fit for a source, a task or a profile."""
    return re.fullmatch("[a-z0-9_]{1,60}", name) is not None


def _with_text_keys(tree: Any) -> Any:
    """Return the document with every key as text.

    YAML allows numbers, dates and lists as keys, and JSON does not.
    """
    if isinstance(tree, dict):
        return {str(key): _with_text_keys(value) for key, value in tree.items()}
    return [_with_text_keys(value) for value in tree] if isinstance(tree, list) else tree


def _all_of(path: Path, mistakes: list[str]) -> ParamsError:
    return ParamsError(
        f"{path}: {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}: {'; '.join(mistakes)}"
    )


def _say(error: Any) -> str:
    value = one_line(json.dumps(error["input"], ensure_ascii=False, default=str), 60)
    match error["type"]:
        case "missing":
            return "is missing"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "is not a known key"
        case "union_tag_invalid":
            return f"name {error['ctx']['tag']} is not one of {error['ctx']['expected_tags']}"
        case "union_tag_not_found":
            return f"needs a `name`, got {value}"
        case _:
            return f"{error['msg'].replace('Value error, ', '')}, got {value}"


def _place(loc: tuple[int | str, ...], document: Any) -> str:
    """Return the path in the document, without pydantic's own steps.

    Those are the tag of a union and '[key]'.
    """
    steps: list[str] = []
    here: Any = document
    for step in loc:
        if (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        ):
            # The condition above has narrowed the type.
            here = here[step]  # pyright: ignore[reportCallIssue, reportArgumentType]
        elif step == "[key]" or (isinstance(here, dict) and here.get("name") == step):
            continue
        steps.append(str(step))
    return one_line(".".join(steps) or "the file")
