"""Texts that say nearly the same join one group, and others never do, however many are alike."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import checks
from stages.contract import plugins
from stages.modalities.text import near

text = plugins.modality("text")


def alike(*texts: str) -> list[int]:
    return text.reading.alike(text.reading.look(pd.Series(texts), checks.ANY_LENGTH)).tolist()


def test_copies_are_found_and_no_pair_is_unconfirmed() -> None:
    found = checks.found(*checks.planted(4_000, np.random.default_rng(0)))
    assert {name: of["pairs"] > 40 for name, of in found["recall"].items()} == {
        ".7 to .75": True,
        ".75 to .8": True,
        ".8 and more": True,
    }
    assert found["recall"][".7 to .75"]["share"] >= 0.98
    assert found["recall"][".75 to .8"]["share"] >= 0.98
    assert found["recall"][".8 and more"]["share"] >= 0.995
    assert found["unconfirmed"] == 0
    assert found["below"]["merged"] == 0 < found["below"]["pairs"]


def test_case_and_white_space_make_no_difference_and_words_do() -> None:
    texts = [
        "How do I verify my identity?",
        "how do I  VERIFY my identity",
        "Where is my card?",
        "Who pays for the card that I lost abroad?",
    ]
    one, same, *others = alike(*texts)
    assert one == same
    assert len({one, *others}) == 3


@given(st.lists(st.text(max_size=12), max_size=8))
@settings(max_examples=40, deadline=None)
def test_any_texts_are_grouped_and_their_order_changes_nothing(texts: list[str]) -> None:
    groups, again = alike(*texts), alike(*reversed(texts))[::-1]
    for i in range(len(texts)):
        for j in range(i):
            assert (groups[i] == groups[j]) == (again[i] == again[j])


@pytest.mark.parametrize("odd", ["\0" * 50, "a" * 3, "漢字" * 40, "🙂" * 9])
def test_odd_texts_are_like_themselves_alone(odd: str) -> None:
    groups = alike(odd, "something else that is said here", odd)
    assert groups[0] == groups[2] != groups[1]


def test_templates_cost_no_more_than_other_texts() -> None:
    """All are near one another: to compare every pair would take some minutes.

    There are 32 million pairs.
    """
    codes = np.random.default_rng(0).permutation(10**6)[:8_000]
    began = time.process_time()
    assert (
        len(
            set(
                alike(
                    *(
                        (
                            f"your code is {code:06}, it can be used until midnight of the day "
                            "after tomorrow"
                        )
                        for code in codes
                    )
                )
            )
        )
        == 1
    )
    assert time.process_time() - began < 20


def test_a_long_text_costs_bounded_memory_and_its_beginning_counts() -> None:
    word = np.array(["red ", "green ", "blue ", "yellow "])[
        np.random.default_rng(0).integers(4, size=180_000)
    ]
    long = "".join(word)
    assert len(set(alike(long, long[: near.REACH + 5], "red green"))) == 2
