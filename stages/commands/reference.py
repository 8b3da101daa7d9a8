"""Explain the keys of params.yaml.

docs/params.md and the comments of a new block come from stages/params/ alone.

`python -m stages.commands.reference > docs/params.md` writes the page; a test compares it with the
types.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stages.params import types
from stages.params.task import Params

INTRODUCTION = (
    "# Every key of params.yaml\n"
    "\n"
    "Written from `stages/params/` by `python -m stages.commands.reference`; a test compares the "
    "two. Every key\n"
    "must be in the file, null where nothing is chosen; an unknown key, a wrong type and NaN "
    "are refused, all in one\n"
    "message. KEY stands for a name you choose, made of a-z, 0-9 and _.\n"
)


@cache
def meanings() -> dict[str, dict[str, str]]:
    """Return {class: {key: the text under the key}} for stages/params/.

    The class's own text is under the key 'name'.
    """
    by_class: dict[str, dict[str, str]] = {}
    sections = Path(types.__file__).parent.glob("*.py")
    for node in (node for path in sections for node in ast.parse(path.read_text("utf-8")).body):
        if isinstance(node, ast.ClassDef):
            texts = by_class[node.name] = {
                "name": " ".join((ast.get_docstring(node) or "").split()).removesuffix(".")
            }
            for key, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr):
                    texts[ast.unparse(key.target)] = " ".join(
                        str(ast.literal_eval(text.value)).split()
                    )
    return by_class


def block(section: Any, indent: int) -> str:
    """Return a section (a dataclass of params) as YAML, with each key's meaning as a comment."""
    return (
        "\n".join(
            f"{line:<{COMMENT}}  # {text}" if text else line
            for line, text in _lines(section, " " * indent)
        )
        + "\n"
    )


COMMENT = 44  # column
# Some readers take more of these words for booleans than YAML 1.2 does.
YAML_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def _lines(section: Any, indent: str) -> Iterator[tuple[str, str]]:
    texts = meanings()[type(section).__name__]
    for field in fields(section):
        value, text = getattr(section, field.name), texts[field.name]
        if is_dataclass(value):
            yield f"{indent}{field.name}:", text
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, dict) and value:
            yield f"{indent}{field.name}:", text
            yield from (
                (f"{indent}  {_quoted(key)}: {_plain(of)}", "") for key, of in value.items()
            )
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            yield f"{indent}{field.name}:", text
            for item in value:
                (first, of_first), *others = _lines(item, f"{indent}    ")
                yield f"{indent}  - {first.strip()}", of_first
                yield from others
        else:
            yield f"{indent}{field.name}: {_plain(value)}", text


def _plain(value: Any) -> str:
    """Return a value as YAML on one line.

    A word stays as it is, a large whole number is written without a fraction, and anything else is
    written as JSON, which is YAML too.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) > 1:
        return str(int(value))
    if (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z_][\w./-]*", value, re.ASCII)
        and value.lower() not in YAML_WORDS
    ):
        return value
    return _quoted(value)


def _quoted(value: Any) -> str:
    """Return a value as JSON that is YAML too.

    Characters that do not print, which YAML might take for the end of a line, are escaped in YAML's
    way.
    """
    written = json.dumps(value, ensure_ascii=False)
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
        for c in written
    )


def page() -> str:
    """Return the text of docs/params.md."""
    schema = TypeAdapter(Params).json_schema()
    return "\n".join(
        [INTRODUCTION, *_sections("params.yaml", schema, schema["$defs"], "Params", set())]
    )


def _sections(
    path: str, schema: dict[str, Any], defs: dict[str, Any], name: str, seen: set[str]
) -> Iterator[str]:
    """Yield the section of a class, then the sections of the classes in it, each once."""
    texts, below = meanings()[name], list[tuple[str, str]]()
    yield f"## `{path}`\n\n{texts['name']}.\n"
    rows = []
    for key, of in schema["properties"].items():
        shown, classes = _type(of)
        rows.append(
            f"| `{key}` | {shown} | {_cell(texts[key]) if key != 'name' else 'chooses this'} |"
        )
        step = "" if path == "params.yaml" else f"{path.partition(' ')[0]}."
        below += [
            (f"{step}{key}{'.KEY' if of.get('type') == 'object' else ''}", c) for c in classes
        ]
    yield "\n".join(["| key | type | meaning |", "|---|---|---|", *rows]) + "\n"
    for place, held in below:
        if (held_in := f"{place} {held}") not in seen:
            seen.add(held_in)
            choice = defs[held]["properties"].get("name", {}).get("const")
            yield from _sections(
                f"{place} (name: {choice})" if choice else place, defs[held], defs, held, seen
            )


def _type(of: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the words for a JSON schema, and the classes that it refers to."""
    match of:
        case {"$ref": "#/$defs/JsonValue"}:
            return "any value", []
        case {"$ref": ref}:
            return "section", [ref.rpartition("/")[2]]
        case {"oneOf": kinds} | {"anyOf": kinds}:
            words, classes = zip(*(_type(kind) for kind in kinds), strict=True)
            return " or ".join(dict.fromkeys(words)), [name for names in classes for name in names]
        case {"const": value}:
            return f"`{value}`", []
        case {"enum": values}:
            return " or ".join(f"`{value}`" for value in values), []
        case {"prefixItems": [first, *_]}:
            return f"two of: {_type(first)[0]}", _type(first)[1]
        case {"type": "array", "items": items}:
            words, classes = _type(items)
            return f"list of: {words}", classes
        case {"type": "object"}:
            words, classes = _type(_values(of))
            return f"KEY: {words}", classes
        case _:
            return _limited(of), []


def _limited(of: dict[str, Any]) -> str:
    """Return the words for the schema of a plain value, with its limits."""
    limits = [f"{sign} {of[key]:.10g}" for key, sign in LIMITS.items() if key in of]
    pattern = [f"matching `{_cell(of['pattern'])}`"] if "pattern" in of else []
    return " ".join([WORDS[of["type"]], *limits, *pattern])


def _values(of: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the values of a mapping whose keys the user chooses."""
    return (
        next(iter(of["patternProperties"].values()))
        if "patternProperties" in of
        else of["additionalProperties"]
    )


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
WORDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
