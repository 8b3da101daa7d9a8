"""Parts: what is true of every manifest, checked with hypothesis."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stages.contract import draws, parts
from stages.contract.errors import DataError
from stages.contract.manifest import PARTS
from stages.params.augment import Split

LABELS = ("a", "b", "c")
FAST = settings(  # examples are small anyway, and shrinking takes a minute
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
GROUPS = st.lists(
    st.tuples(
        st.sampled_from(LABELS),
        st.integers(1, 3),
        st.integers(0, 2),
        st.sampled_from([None, None, *PARTS]),
    ),
    min_size=24,
    max_size=60,
)
SETTINGS = st.builds(
    Split,
    seed=st.integers(0, 2**32 - 1),
    validation=st.floats(0.05, 0.4),
    test=st.floats(0.05, 0.4),
)


def manifest(
    groups: list[tuple[str, int, int, str | None]], given_parts: bool = True
) -> pd.DataFrame:
    """Return rows for each group, and enough of every class in every part.

    A group is (label, originals, copies of each, given part of the first original).
    """
    rows = []
    used = {part for *_, part in groups if part} if given_parts else set()
    enough = [
        (label, 1, 0, part) for label in LABELS for part in [None, None, None, None, *sorted(used)]
    ]
    for number, (label, originals, copies, part) in enumerate([*groups, *enough]):
        name = f"{number:04d}-0"
        for i in range(originals):
            source = f"{number:04d}-{i}"
            own = (part if i == 0 else None) if given_parts else None
            made = [source, *(f"{source}+{n}" for n in range(1, copies + 1))]
            rows += [
                {"id": made_id, "source_id": source, "group": name, "given_part": own, "y": label}
                for made_id in made
            ]
    return pd.DataFrame(rows)


def part(samples: pd.DataFrame, split: Split) -> parts.Parting:
    return parts.assign(samples.assign(stratum=samples["y"]), split)


def of_groups(samples: pd.DataFrame, parting: parts.Parting) -> dict[str, str]:
    original = (samples["id"] == samples["source_id"]) & (samples["id"] == samples["group"])
    return dict(zip(samples.loc[original, "group"], parting.part[original], strict=True))


@FAST
@given(GROUPS, SETTINGS)
def test_no_group_stands_in_two_parts_and_every_row_is_in_a_part_or_dropped_for_a_reason(
    groups: list, split: Split
) -> None:
    samples = manifest(groups)
    found = part(samples, split)
    assert (found.part.groupby(samples["group"]).nunique() <= 1).all()
    dropped = samples[found.part.isna()]
    held_out = set(samples.loc[found.part.isin(["validation", "test"]), "group"])
    assert set(dropped["group"]) <= held_out
    assert set(found.part.dropna()) == set(PARTS)


@FAST
@given(GROUPS, SETTINGS)
def test_held_out_parts_hold_originals_only_and_train_keeps_its_copies(
    groups: list, split: Split
) -> None:
    samples = manifest(groups)
    found = part(samples, split)
    copies = samples["id"] != samples["source_id"]
    assert not (copies & found.part.isin(["validation", "test"])).any()
    in_train = set(samples.loc[found.part == "train", "group"])
    assert (found.part[copies & samples["group"].isin(in_train)] == "train").all()


@FAST
@given(GROUPS, SETTINGS)
def test_copies_change_no_part_of_an_original(groups: list, split: Split) -> None:
    samples = manifest(groups)
    originals = samples[samples["id"] == samples["source_id"]].reset_index(drop=True)
    with_copies = dict(zip(samples["id"], part(samples, split).part, strict=True))
    without = dict(zip(originals["id"], part(originals, split).part, strict=True))
    assert {k: str(v) for k, v in without.items()} == {k: str(with_copies[k]) for k in without}


@FAST
@given(GROUPS, SETTINGS)
def test_parts_that_the_data_gives_are_honoured_and_what_repeats_them_is_dropped(
    groups: list, split: Split
) -> None:
    samples = manifest(groups)
    found = part(samples, split)
    original = samples["id"] == samples["source_id"]
    for name in ("validation", "test"):
        given_here = samples["given_part"] == name
        assert (found.part[given_here & original] == name).all()
        if given_here.any():  # never added to
            assert samples.loc[found.part == name, "given_part"].eq(name).all()
        same_group = samples["group"].isin(samples.loc[given_here, "group"]) & ~given_here
        assert found.part[same_group].isna().all()
        assert found.repeats[same_group & original].all()


@FAST
@given(
    GROUPS,
    st.lists(
        st.tuples(st.sampled_from(LABELS), st.integers(1, 2), st.integers(0, 1), st.none()),
        max_size=20,
    ),
    SETTINGS,
)
def test_adding_rows_moves_no_old_group_but_those_that_had_filled_a_part(
    groups: list, more: list, split: Split
) -> None:
    old, new = manifest(groups, given_parts=False), manifest([*groups, *more], given_parts=False)
    before, after = part(old, split), part(new, split)
    moved = {
        group
        for group, name in of_groups(old, before).items()
        if of_groups(new, after)[group] != name
    }
    assert moved <= set(before.filled["group"]) | set(after.filled["group"])


@FAST
@given(GROUPS, SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_rows_says_nothing(groups: list, split: Split, draw) -> None:
    samples = manifest(groups)
    order = list(range(len(samples)))
    draw.shuffle(order)
    shuffled = samples.iloc[order].reset_index(drop=True)
    by_id = dict(zip(samples["id"], part(samples, split).part.astype(str), strict=True))
    assert dict(zip(shuffled["id"], part(shuffled, split).part.astype(str), strict=True)) == by_id


def test_shares_are_about_those_asked_for_in_every_class() -> None:
    samples = manifest([(label, 1, 0, None) for label in LABELS for _ in range(2000)])
    found = part(samples, Split(seed=3, validation=0.1, test=0.2))
    share = pd.crosstab(samples["y"], found.part, normalize="index")
    assert share["test"].between(0.17, 0.23).all()
    assert share["validation"].between(0.08, 0.12).all()
    assert found.filled.empty


def test_another_seed_is_another_split() -> None:
    samples = manifest([(label, 1, 0, None) for label in LABELS for _ in range(200)])
    one, again, other = (
        part(samples, Split(seed=seed, validation=0.1, test=0.2)).part for seed in (3, 3, 4)
    )
    assert one.equals(again)
    assert 0.3 < (one != other).mean() < 0.6  # two draws at these shares differ in .46 of the rows


def test_a_part_that_a_class_would_lack_is_filled_and_the_group_is_named() -> None:
    samples = manifest([])
    found = part(samples, Split(seed=3, validation=0.01, test=0.01))
    assert set(found.filled["part"]) == {"validation", "test"}
    assert all(
        of_groups(samples, found)[row.group] == row.part for row in found.filled.itertuples()
    )
    assert (pd.crosstab(samples["y"], found.part) >= 1).all(axis=None)


def test_a_class_with_too_few_groups_is_refused_by_its_name() -> None:
    # Two groups for three parts.
    samples = manifest([("rare\n", 3, 2, None), ("rare\n", 1, 0, None)])
    with pytest.raises(DataError, match=r"parts: \w+ has no row of rare\\n"):
        part(samples, Split(seed=3, validation=0.2, test=0.2))


@FAST
@given(st.integers(0, 2**32 - 1), st.text(max_size=20))
def test_a_draw_is_the_same_every_time_and_in_range(seed: int, name: str) -> None:
    assert 0 <= draws.uniform("part", seed, name) < 1
    assert draws.integer("part", seed, name) == draws.integer("part", seed, name)


def test_draws_for_two_purposes_two_seeds_or_two_names_are_independent() -> None:
    names = [str(i) for i in range(4000)]
    columns = {
        (p, s): [draws.uniform(p, s, name) for name in names]
        for p in ("part", "chosen")
        for s in (7, 8)
    }
    drawn = pd.DataFrame(columns)
    off_diagonal = drawn.corr().to_numpy()[~pd.DataFrame(drawn.corr()).eq(1.0).to_numpy()]
    assert len(off_diagonal) == 12
    assert abs(off_diagonal).max() < 0.06
    assert drawn.mean().between(0.48, 0.52).all()
    shifted = drawn[("part", 7)].corr(drawn[("part", 7)].shift())
    assert abs(shifted) < 0.06
