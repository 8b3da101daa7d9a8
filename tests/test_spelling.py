"""Labels that a person takes for the same one: what makes them so, and what does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.checks import spelling

LABELS = st.text(max_size=12)
SPACES = " \t\u00a0\u2003"
# Latin -> Cyrillic.
LOOK_ALIKE = dict(zip("aceopxy", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443", strict=True))
FAST = settings(deadline=None, derandomize=True, database=None)


@FAST
@given(LABELS)
def test_a_skeleton_is_its_own_skeleton(label: str) -> None:
    assert spelling.skeleton(spelling.skeleton(label)) == spelling.skeleton(label)


@FAST
@given(
    st.text(st.characters(categories=["Lu", "Ll", "Nd", "Zs"]), max_size=12),
    st.integers(0, 12),
    st.sampled_from(SPACES),
)
def test_case_and_spaces_change_no_skeleton(label: str, at: int, space: str) -> None:
    assert spelling.skeleton(label.casefold()) == spelling.skeleton(label)
    assert spelling.skeleton(f"{label[:at]}{space}{label[at:]}") == spelling.skeleton(label)


@pytest.mark.parametrize(("one", "other"), [
    ("Ant", "ant"), ("hot dog", "hotdog"), (" ant", "ant "), ("\uff21\uff4e\uff54", "Ant"),
    ("caf\u00e9", "cafe\u0301"), ("Stra\u00dfe", "STRASSE"),
    ("ILIK", "\u0131lik"), ("\u0390", "\u0399\u0308\u0301"),
])  # fmt: skip
def test_two_spellings_of_a_label_clash(one: str, other: str) -> None:
    (line,) = spelling.clashes(sorted([one, other, "bee"]))
    assert ascii(one) in line and ascii(other) in line and "bee" not in line


@FAST
@given(st.text("".join(LOOK_ALIKE), min_size=1, max_size=8))
def test_letters_of_another_alphabet_that_look_alike_clash(label: str) -> None:
    (line,) = spelling.clashes([label, "".join(LOOK_ALIKE[c] for c in label)])
    assert line.isascii()  # so that a person sees which is which


@FAST
@given(st.lists(st.text("abcdefgh0123456789_-", min_size=1, max_size=6), unique=True, max_size=20))
def test_plain_labels_that_differ_do_not_clash(labels: list[str]) -> None:
    assert spelling.clashes(labels) == []


def test_every_set_of_labels_that_look_like_one_is_a_line() -> None:
    lines = spelling.clashes(["ANT", "Ant", "BEE", "ant", "bee", "wasp"])
    assert len(lines) == 2
    assert all(f"'{label}'" in lines[0] for label in ("ANT", "Ant", "ant"))
