"""The ledger: shared rows share uses, a repetition is none, and all levels sum to at most alpha."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from stages.judging.ledger import LITTLE, Use, level, number, spending

ALPHA = 0.1
USES = st.lists(
    st.builds(
        Use,
        st.sampled_from("abc"),
        st.sampled_from(["d", "baselines"]),
        st.frozensets(st.sampled_from("12345"), min_size=1),
    ),
    max_size=12,
)


def use(candidate: str, rows: str, against: str = "baselines") -> Use:
    return Use(candidate, against, frozenset(rows))


def test_a_set_that_shares_one_row_with_used_ones_inherits_their_uses() -> None:
    earlier = [use("a", "123"), use("b", "345"), use("c", "678")]
    assert number(use("d", "12"), earlier) == 2
    assert number(use("d", "39"), earlier) == 3
    assert number(use("d", "9"), earlier) == 1
    assert number(use("d", "9"), []) == 1


def test_uses_are_not_inherited_along_chains() -> None:
    assert number(use("c", "45"), [use("a", "12"), use("b", "234")]) == 2


def test_a_repetition_is_no_use_and_keeps_its_number() -> None:
    earlier = [use("a", "12"), use("b", "12"), use("a", "12"), use("c", "12")]
    assert [number(of, earlier) for of in earlier] == [1, 2, 1, 3]
    assert number(use("d", "12"), earlier) == 4
    assert number(use("a", "12", against="b"), earlier) == 4
    assert number(use("a", "123"), earlier) == 4


@given(USES)
def test_the_levels_of_all_uses_of_a_row_sum_to_at_most_alpha(made: list[Use]) -> None:
    distinct = list(dict.fromkeys(made))
    for row in "12345":
        assert sum(level(ALPHA, number(of, made)) for of in distinct if row in of.rows) <= ALPHA


def test_levels_are_those_of_the_series_and_sum_to_alpha() -> None:
    assert level(ALPHA, 1) == pytest.approx(0.060793, abs=1e-6)
    assert level(ALPHA, 3) == pytest.approx(level(ALPHA, 1) / 9)
    *_, total = accumulate(level(ALPHA, k) for k in range(1, 10_001))
    assert 0.9999 * ALPHA < total < ALPHA


def test_fresh_rows_are_asked_for_before_the_next_decision_would_need_twice_as_many() -> None:
    def rows_needed(k: int) -> float:
        return (
            (norm.ppf(1 - level(ALPHA, k)) + norm.ppf(0.8))
            / (norm.ppf(1 - level(ALPHA, 1)) + norm.ppf(0.8))
        ) ** 2

    for k in range(1, 53):
        found = spending(ALPHA, k)
        assert (found.use, found.level) == (k, level(ALPHA, k))
        assert found.left == pytest.approx(ALPHA - sum(level(ALPHA, j) for j in range(1, k + 1)))
        assert (
            (found.advice is not None) == (found.left < LITTLE * ALPHA) == (rows_needed(k + 1) > 2)
        )
    assert (
        spending(ALPHA, 3).advice
        == "3 decisions have used these test rows, and 17% of alpha is left: "
        "label fresh test rows before the next"
    )
