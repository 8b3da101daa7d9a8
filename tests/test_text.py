"""Text: copies that depend on nothing but their original, and what counts as the same text."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from stages.contract import draws, plugins
from stages.params.augment import Augment, Transform
from stages.params.image import Albumentations
from stages.params.text import Keyboard, RandomCharacter, RandomWord, TextModality
from tests.conftest import ROOT

text = plugins.modality("text")

SETTINGS = TextModality(name="text", characters=(3, 20), median_characters=(1, 50), max_tokens=8)
KEYBOARD = Keyboard(name="keyboard", words=0.5, characters=0.5)
OPTIONS = {"to": "upper", "words": 0.6, "characters": 0.6}
ACTIONS = {
    RandomCharacter: ["insert", "substitute", "swap", "delete"],
    RandomWord: ["swap", "delete", "crop"],
}


NO_FILES = Path("a text is no file")
LONG = TextModality(name="text", characters=(3, 1000), median_characters=(1, 500), max_tokens=8)


def alter(rows: pd.DataFrame, augment: Augment, settings: TextModality = LONG) -> pd.DataFrame:
    return text.altering.alter(rows, augment, settings, NO_FILES, "")


def samples(number: int = 30) -> pd.DataFrame:
    x = [f"the quick brown fox number {i} jumps over some lazy dogs" for i in range(number)]
    ids = [f"{i:03d}" for i in range(number)]
    frame = pd.DataFrame(
        {
            "id": ids,
            "source_id": ids,
            "group": ids,
            "given_part": None,
            "x": x,
            "y": [["a"]] * number,
        }
    )
    return frame.assign(content=content(frame["x"]), origin="t.csv:" + frame["id"], meta="{}")


def content(x: "pd.Series[str]") -> "pd.Series[str]":
    """Return the manifest's column that identifies equal texts, as validate writes it."""
    return draws.digest(text.reading.look(x, LONG)["normal"])


def augment(
    share: float = 1.0, copies: int = 2, seed: int = 7, transforms: tuple[Any, ...] = (KEYBOARD,)
) -> Augment:
    return Augment(seed=seed, share=share, copies=copies, on_the_fly=False, transforms=transforms)


def every_transform() -> list[Any]:
    union = get_args(Transform)[0]
    made = []
    for kind in [kind for kind in get_args(union) if kind is not Albumentations]:
        fields = set(kind.__dataclass_fields__)
        settings = {"name": get_args(kind.__annotations__["name"])[0]} | {
            k: v for k, v in OPTIONS.items() if k in fields
        }
        made += (
            [kind(**settings, action=action) for action in ACTIONS[kind]]
            if "action" in fields
            else [kind(**settings)]
        )
    return made


def by_id(copies: pd.DataFrame) -> dict[str, str]:
    return dict(zip(copies["id"], copies["x"], strict=True))


def test_a_draw_does_not_depend_on_order_or_on_other_rows() -> None:
    transforms = tuple(every_transform())
    everything = by_id(alter(samples(), augment(0.7, transforms=transforms)))
    shuffled = by_id(
        alter(samples().sample(frac=1, random_state=3), augment(0.7, transforms=transforms))
    )
    some = samples().iloc[4:17:2]
    assert shuffled == everything
    assert by_id(alter(some, augment(0.7, transforms=transforms))) == {
        k: v for k, v in everything.items() if k[:3] in set(some["id"])
    }
    assert len({k[:3] for k in everything}) < 30


def test_another_seed_and_another_number_draw_anew() -> None:
    one, other = by_id(alter(samples(), augment(seed=1))), by_id(alter(samples(), augment(seed=2)))
    assert sum(one[i] == other[i] for i in one.keys() & other.keys()) < 3
    assert (
        sum(
            one[f"{i:03d}+1"] == one[f"{i:03d}+2"]
            for i in range(30)
            if f"{i:03d}+1" in one and f"{i:03d}+2" in one
        )
        < 3
    )


def test_more_copies_leave_the_first_ones_as_they_were() -> None:
    few, many = (
        by_id(alter(samples(), augment(copies=1))),
        by_id(alter(samples(), augment(copies=3))),
    )
    assert few == {k: v for k, v in many.items() if k.endswith("+1")}


@pytest.mark.parametrize(
    "settings", [augment(share=0.0), augment(copies=0), augment(transforms=())]
)
def test_no_share_no_copies_or_no_transforms_give_no_copy(settings: Augment) -> None:
    found = alter(samples(), settings)
    assert found.empty
    assert list(found.columns) == list(samples().columns)


def test_a_share_of_the_rows_is_altered() -> None:
    found = alter(samples(300), augment(0.3, copies=1))
    assert 60 < len(found) < 120


@pytest.mark.parametrize(
    "transform", every_transform(), ids=lambda t: f"{t.name}_{getattr(t, 'action', '')}"
)
def test_every_transform_alters_some_text(transform: Any) -> None:
    found = alter(samples(), augment(transforms=(transform,), copies=1))
    originals = samples().set_index("id")["x"]
    assert len(found) >= 15
    assert (found["x"] != found["source_id"].map(originals)).all()
    assert found["x"].str.len().gt(0).all()


def test_a_text_that_cannot_be_altered_gets_no_copy() -> None:
    found = alter(samples().assign(x="好好 好好好"), augment())
    assert found.empty


def test_a_copy_of_a_length_that_no_original_may_have_is_left_out() -> None:
    cropped = augment(
        transforms=(RandomWord(name="random_word", action="crop", words=0.6),), copies=1
    )
    lengths = alter(samples(), cropped)["x"].str.len()
    assert lengths.min() < 22 < lengths.max()
    found = alter(
        samples(),
        cropped,
        TextModality(name="text", characters=(22, 1000), median_characters=(1, 500), max_tokens=8),
    )
    assert found["x"].str.len().tolist() == lengths[lengths >= 22].tolist()


def test_a_copy_names_its_source_and_keeps_everything_else() -> None:
    found = alter(samples(), augment(copies=2))
    assert found["id"].is_unique
    assert (found["id"].str.rpartition("+")[0] == found["source_id"]).all()
    originals = samples().set_index("id")
    for column in ("group", "origin", "meta"):
        assert (found[column] == found["source_id"].map(originals[column])).all()
    assert found["y"].tolist() == [["a"]] * len(found)
    assert found["content"].tolist() == content(found["x"]).tolist()
    assert not set(found["content"]) & set(originals["content"])


def test_texts_of_a_length_out_of_range_are_set_aside_with_a_code() -> None:
    x = pd.Series(
        ["ab", "abc", "x" * 20, "x" * 21, "  ab   ", "", "好好好"], index=[9, 8, 7, 6, 5, 4, 3]
    )
    found = text.reading.look(x, SETTINGS)
    assert found.index.tolist() == x.index.tolist()
    assert found["code"].dropna().to_dict() == {
        9: "too_short",
        6: "too_long",
        5: "too_short",
        4: "too_short",
    }
    assert found.loc[6, "reason"] == "21 characters, not 3 to 20"
    assert found["reason"].notna().equals(found["code"].notna())
    assert found.select_dtypes("number").to_dict("list") == {"characters": [2, 3, 20, 21, 2, 0, 3]}


def test_no_text_at_all_has_every_column_and_its_type() -> None:
    none, some = (text.reading.look(pd.Series(x, dtype=object), SETTINGS) for x in ([], ["good"]))
    assert list(none.columns) == list(some.columns)
    assert none["characters"].dtype == some["characters"].dtype
    assert text.reading.alike(none).empty


def test_case_width_and_white_space_make_no_other_text() -> None:
    same = pd.Series(["Was ist DAS?", "was  ist das?", " was\tist\u00a0das?\n", "ＷＡＳ ist das？"])
    looked = text.reading.look(same, SETTINGS)
    assert looked["normal"].nunique() == text.reading.alike(looked).nunique() == 1
    assert looked["exact"].nunique() == 4
    assert (
        text.reading.alike(
            text.reading.look(pd.Series(["was ist das?", "was ist dies?", "wasist das?"]), SETTINGS)
        ).nunique()
        == 3
    )


def test_which_transform_alters_a_text_and_how_are_drawn_apart() -> None:
    """Of 1,000 draws either of two transforms takes half.

    In each half Python's and NumPy's generators are spread evenly and uncorrelated.
    """
    drawn = dict[str, list[tuple[float, float]]]({"first": [], "second": []})

    def noted(name: str) -> Callable[[str], str]:
        return lambda text: drawn[name].append((random.random(), float(np.random.random()))) or text

    for i in range(1000):
        text.altering._alter_one(
            "as it is", draws.integer("altered", 7, str(i)), [noted("first"), noted("second")]
        )
    assert 430 < len(drawn["first"]) < 570  # 500 are expected, with a deviation of 16
    for of in drawn.values():
        python, numpy = np.array(of).T
        assert abs(python.mean() - 0.5) < 0.07 and abs(numpy.mean() - 0.5) < 0.07
        assert abs(np.corrcoef(python, numpy)[0, 1]) < 0.2
        assert not np.isclose(python, numpy).any()


def test_altering_characters_imports_no_torch() -> None:
    script = (
        "import sys, tests.test_text as t; t.alter(t.samples(), t.augment()); "
        "print('nlpaug' in sys.modules, 'torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        == "True False\n"
    )
