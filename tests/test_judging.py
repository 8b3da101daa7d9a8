"""Judging: equal models are not promoted, better ones are, and every number is right.

It is the one that scikit-learn and scipy give.
"""

import json
import math
import re
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from benchmarks import judging
from stages.contract.metrics import Metric
from stages.judging import evidence, gates, ledger, statistics
from stages.judging.cost import Cost
from stages.judging.decision import Candidate, Data, Decision, Drift, Lineage
from stages.judging.evidence import Interval
from stages.judging.report import (
    Alteration,
    Bin,
    Confidence,
    Deciding,
    LabelScores,
    Model,
    Report,
    Slice,
)
from stages.judging.report import Calibration as Calibrated
from stages.judging.verdict import Evidence
from stages.judging.verdict import together as together_of
from stages.models.saved import Base, Saved
from stages.params.register import (
    BeatsBaseline,
    Budget,
    Calibration,
    Card,
    EachLabel,
    Floor,
    Robustness,
    Slices,
)
from stages.problems import classification
from stages.report import card
from tests.conftest import ROOT

LABELS = ["a", "b", "c", "d"]
GATE = BeatsBaseline(name="beats_baseline", margin=0.0, margins={}, alpha=0.1)
LEVEL = ledger.level(0.1, 1)
METRICS = classification.METRICS
F1 = METRICS["macro_f1"]
FLOOR = Floor(name="floor", metric="macro_f1", least=0.5)


def scored(rows: int, seed: int, **accuracy: float) -> pd.DataFrame:
    """Return y and predictions of models that are right independently, each with its probability.

    Labels are 4:3:2:1.
    """
    draw = np.random.default_rng(seed)
    y = draw.choice(LABELS, rows, p=[0.4, 0.3, 0.2, 0.1])
    found = {"y": y}
    for name, share in accuracy.items():
        found[name] = np.where(draw.random(rows) < share, y, draw.choice(LABELS, rows))
    return pd.DataFrame(found)


def judge(
    predictions: pd.DataFrame,
    gate: Any = GATE,
    against: tuple[str, ...] = ("champion",),
    use: int = 1,
    **found: Any,
) -> dict[str, Any]:
    """Answer a gate on predictions; `found` is more of the report, or the rest of the evidence."""
    more = {name: found.pop(name) for name in ("cost", "labels") if name in found}
    shown = {"labels": LABELS, "cost": None} | more
    return gates.judge(
        gate,
        Evidence(
            predictions, reported(**found), against=list(against), metrics=METRICS, use=use, **shown
        ),
    )


def reported(**found: Any) -> Report:
    """Return a report of no row, in which some things were found; scores are the candidate's."""
    scores = found.pop("scores", {})
    blank = {
        "metric": Deciding("macro_f1", "macro-F1", "F1", less=False),
        "metric_of_slices": "accuracy",
        "confidence": 0.95,
        "models": {"candidate": Model(0, scores, {}, {}, {})},
        "beside": {},
        "calibration": None,
        "slices": [],
        "robustness": [],
    }
    return Report(**(blank | found))


def compare(
    rows: pd.DataFrame, labels: list[str] = LABELS, metric: Metric = F1, **settings: Any
) -> evidence.Comparison:
    tallies = (metric.tally(rows["y"], rows[name], labels) for name in ("candidate", "champion"))
    return evidence.compare(*tallies, metric, **({"margin": 0.0, "level": 0.05} | settings))


def test_equal_models_are_promoted_at_most_as_often_as_the_level_says() -> None:
    """A/A: 200 test sets, two models of equal skill.

    The gate may be wrong as often as its level says (here up to 3 standard errors more).
    """
    outcomes = pd.Series(
        [judge(scored(300, seed, candidate=0.8, champion=0.8)).outcome for seed in range(200)]
    )
    rate = outcomes.value_counts(normalize=True)
    limit = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / 200)
    assert rate.get("promote", 0) <= limit, rate
    assert rate.get("reject", 0) <= limit, rate
    assert rate["inconclusive"] > 0.8


def test_the_benchmark_measures_what_the_gate_computes() -> None:
    of = judging.population((1.0,) * 4, 0.02)
    counts = of.draw(300, 5, np.random.default_rng(0))
    low, high = judging.bounds(counts, of, LEVEL)
    for i, row in enumerate(counts.astype(int)):
        said = [np.repeat(np.array(LABELS)[side], row) for side in of.cells]
        found = compare(
            pd.DataFrame(dict(zip(("y", "candidate", "champion"), said, strict=True))), level=LEVEL
        )
        assert (found.lower, found.upper) == pytest.approx((low[i], high[i]))


def test_alarms_power_and_coverage_are_as_wanted() -> None:
    """docs/measured.md at a smaller size: its limits, plus 3 standard errors of 1,000 draws."""
    for line in judging.alarms(1000):
        assert line["promoted"] <= 0.075 + 3 * math.sqrt(0.075 * 0.925 / 1000), line
    found = next(line for line in judging.power(1000) if (line["rows"], line["use"]) == (1000, 1))
    assert found["gain"] == pytest.approx(0.02, abs=1e-4) and found["promoted"] >= 0.65
    for line in judging.coverage(1000):
        if line["rows"] >= 191:
            assert (
                0.93 - 3 * math.sqrt(0.93 * 0.07 / 1000)
                <= line["held"]
                <= 0.97 + 3 * math.sqrt(0.97 * 0.03 / 1000)
            ), line


def test_a_year_of_equal_retrains_promotes_one_in_a_tenth_of_years_and_in_most_without_a_ledger() -> (  # noqa: E501
    None
):
    found = [line for line in judging.weekly(200) if line["rows"] == 191]
    assert all(line["with_the_ledger"] <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 200) for line in found), (
        found
    )
    assert found[1]["plain_5_percent"] > 0.85


def test_the_same_predictions_are_never_promoted() -> None:
    rows = scored(500, 1, champion=0.7)
    verdict = judge(rows.assign(candidate=rows["champion"]))
    assert verdict.outcome == "inconclusive"
    assert verdict.facts["against"]["champion"]["more_rows"] is None
    assert "more rows cannot be expected to lead to a promotion" in verdict.reason


@pytest.mark.parametrize("wrong", ["other", "majority"])
def test_a_handful_of_rows_is_never_enough(wrong: str) -> None:
    """Three right rows of as many labels: without added rows the standard error would be near 0."""
    rows = pd.DataFrame(
        {
            "y": list("abc"),
            "candidate": list("abc"),
            "champion": list("bca" if wrong == "other" else "aaa"),
        }
    )
    found = compare(rows, list("abc"), level=LEVEL)
    assert found.upper - found.lower > 0.4
    same = rows.assign(champion=rows["candidate"])
    assert (
        judge(same, BeatsBaseline("beats_baseline", -0.01, {}, 0.1), labels=list("abc")).outcome
        == "inconclusive"
    )


def test_a_clearly_better_model_is_promoted_and_a_clearly_worse_one_rejected() -> None:
    assert judge(scored(500, 1, candidate=0.95, champion=0.7)).outcome == "promote"
    assert judge(scored(500, 1, candidate=0.7, champion=0.95)).outcome == "reject"


def test_a_model_of_noise_is_not_promoted_for_being_better_than_models_of_noise() -> None:
    """It was met on labels of a coin toss.

    The model is right in 53 % of 500 rows, the cheap models, by chance, in 43 %, and one predicts a
    single label.
    """
    draw = np.random.default_rng(0)
    y = draw.choice(["heads", "tails"], 500)
    other = np.where(y == "heads", "tails", "heads")
    at = draw.permutation(500)
    models = {
        name: np.where(np.isin(np.arange(500), at[: int(share * 500)]), y, other)
        for name, share in {"candidate": 0.533, "words": 0.434}.items()
    }
    rows = pd.DataFrame({"y": y, **models, "majority": "heads"})
    verdict = judge(rows, against=("words", "majority"), labels=["heads", "tails"])
    assert {of["outcome"] for of in verdict.facts["against"].values()} == {"promote"}
    assert (
        verdict.outcome == "inconclusive"
        and "its predictions dealt out to the rows at random reach 0." in verdict.reason
    )


def test_a_small_test_set_is_inconclusive_and_says_what_it_could_have_shown() -> None:
    verdict = judge(scored(25, 0, candidate=0.85, champion=0.75))
    assert verdict.outcome == "inconclusive"
    found = verdict.facts["against"]["champion"]
    assert found["lower"] <= 0 < found["upper"]
    assert found["smallest_detectable"] > abs(found["difference"])
    assert (
        found["more_rows"] > 0
        and f"about {found['more_rows']:,} more rows would settle it" in verdict.reason
    )
    assert f"these rows can show {found['smallest_detectable']:.4f} or more" in verdict.reason


def test_the_difference_must_exceed_the_margin() -> None:
    rows = scored(2000, 1, candidate=0.9, champion=0.85)
    assert judge(rows).outcome == "promote"
    assert judge(rows, BeatsBaseline("beats_baseline", 0.2, {}, 0.1)).outcome == "reject"


def test_one_opponent_that_is_not_beaten_is_enough() -> None:
    rows = scored(500, 1, candidate=0.8, weak=0.3, strong=0.97)
    verdict = judge(rows, against=("weak", "strong"))
    assert verdict.outcome == "reject"
    assert {name: of["outcome"] for name, of in verdict.facts["against"].items()} == {
        "weak": "promote",
        "strong": "reject",
    }
    assert "does not beat strong" in verdict.reason


def test_so_many_more_rows_as_it_says_show_the_difference() -> None:
    drawn = (
        (rows, compare(rows))
        for rows in (scored(300, seed, candidate=0.82, champion=0.8) for seed in range(50))
    )
    rows, few = next(
        (rows, found) for rows, found in drawn if found.difference > 0.01 and found.lower <= 0
    )
    assert few.more_rows
    times = 1 + few.more_rows / 300
    many = compare(pd.concat([rows] * math.ceil(times)))
    assert many.more_rows == 0 and many.lower > 0
    assert few.smallest_detectable / math.sqrt(times) == pytest.approx(few.difference, rel=0.01)
    assert compare(rows, margin=few.difference + 0.01).more_rows is None


def test_a_margin_below_0_asks_whether_the_candidate_is_not_much_worse() -> None:
    rows = scored(2000, 1, candidate=0.85, champion=0.85)
    assert judge(rows).outcome == "inconclusive"
    verdict = judge(rows, BeatsBaseline("beats_baseline", -0.05, {}, 0.1))
    assert verdict.outcome == "promote" and "is not inferior to champion" in verdict.reason
    worse = judge(
        scored(2000, 1, candidate=0.7, champion=0.85),
        BeatsBaseline("beats_baseline", -0.05, {}, 0.1),
    )
    assert worse.outcome == "reject" and "is inferior to champion" in worse.reason
    better = judge(
        scored(2000, 1, candidate=0.9, champion=0.7),
        BeatsBaseline("beats_baseline", -0.05, {}, 0.1),
    )
    assert (
        better.outcome == "promote"
        and "is better than champion" in better.reason
        and "confidence at least +0.1" in better.reason
    )


def test_a_later_use_of_the_same_rows_asks_for_more() -> None:
    rows = scored(1000, 6, candidate=0.87, champion=0.85)
    first, tenth = judge(rows), judge(rows, use=10)
    assert (first.facts["alpha"], first.facts["use"], first.facts["level"]) == (0.1, 1, LEVEL)
    assert (tenth.facts["alpha"], tenth.facts["use"], tenth.facts["level"]) == (
        0.1,
        10,
        ledger.level(0.1, 10),
    )
    assert tenth.facts["against"]["champion"]["lower"] < first.facts["against"]["champion"]["lower"]
    assert "label fresh test rows" in tenth.reason and "label fresh test rows" not in first.reason


def test_the_worked_example_of_the_page_is_what_the_gate_says() -> None:
    rows, page = (
        scored(2000, 2, candidate=0.86, champion=0.83),
        (ROOT / "docs/judging.md").read_text(),
    )
    for number, use in ((400, 1), (2000, 1), (2000, 2)):
        verdict = judge(rows.iloc[:number], use=use)
        assert f"> {verdict.outcome}: {verdict.reason}\n" in page


ROWS = scored(200, 3, candidate=0.9, champion=0.5).assign(confidence=0.9)
EACH, CALIBRATED = EachLabel("each_label", 0.5), Calibration("calibration", 10, 0.1)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1.0001, -0.1, "0.9", None]
)
def test_a_metric_that_is_no_share_is_refused_by_the_floor(value: Any) -> None:
    verdict = judge(ROWS, FLOOR, scores={"macro_f1": value})
    assert verdict.outcome == "reject" and "no number from 0 to 1" in verdict.reason
    assert judge(ROWS, FLOOR) == judge(ROWS, FLOOR, scores={"macro_f1": None})


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.4999, "reject"), (0.5, "promote"), (1.0, "promote"), (1, "promote")]
)
def test_a_metric_must_reach_the_floor(value: float, outcome: str) -> None:
    assert judge(ROWS, FLOOR, scores={"macro_f1": value}).outcome == outcome


def test_each_label_must_reach_its_f1() -> None:
    f1 = f1_score(ROWS["y"], ROWS["candidate"], labels=LABELS, average=None)
    verdict = judge(ROWS, EACH)
    assert list(verdict.facts["parts"].values()) == pytest.approx(list(f1))
    assert verdict.outcome == "promote"
    assert judge(ROWS, EachLabel("each_label", float(min(f1)) + 1e-6)).outcome == "reject"
    assert f"the lowest F1 is {min(f1):.4f}, of {LABELS[f1.argmin()]} " in verdict.reason


def test_confidence_must_be_near_the_share_that_is_right() -> None:
    right = float((ROWS["y"] == ROWS["candidate"]).mean())
    verdict = judge(ROWS, CALIBRATED)
    assert verdict.facts["error"] == pytest.approx(abs(0.9 - right))  # one confidence, one bin
    assert verdict.outcome == "promote"
    assert judge(ROWS.assign(confidence=0.4), CALIBRATED).outcome == "reject"


def test_the_calibration_error_is_that_of_bins_of_equally_many_rows() -> None:
    draw = np.random.default_rng(0)
    confidence = pd.Series(draw.random(100))
    right = pd.Series(draw.random(100) < confidence)
    order = np.argsort(confidence.to_numpy())
    bins = [
        abs(right.to_numpy()[of].mean() - confidence.to_numpy()[of].mean())
        for of in np.array_split(order, 5)
    ]
    assert statistics.calibration_error(confidence, right, 5) == pytest.approx(np.mean(bins))
    shuffled = draw.permutation(100)
    assert statistics.calibration_error(confidence[shuffled], right[shuffled], 5) == pytest.approx(
        np.mean(bins)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0001, -0.1, None, "high"])
def test_a_confidence_that_is_no_share_is_refused(value: Any) -> None:
    confidence = ROWS["confidence"].astype(object)
    confidence.iloc[7] = value
    verdict = judge(ROWS.assign(confidence=confidence), CALIBRATED)
    assert verdict.outcome == "reject" and verdict.reason.startswith(
        "1 of 200 confidences are missing or no number from 0 to 1"
    )
    assert "200 of 200" in judge(ROWS.drop(columns="confidence"), CALIBRATED).reason


def test_fewer_rows_than_bins_are_refused() -> None:
    assert "cannot fill 10 bins" in judge(ROWS.iloc[:9], CALIBRATED).reason


def sliced(value: Any, high: Any) -> Slice:
    return Slice("meta.shop", "north", 40, 0.5, Interval(value, 0.1, high), weak=False)


@pytest.mark.parametrize(
    ("shares", "outcome"),
    [
        ([(0.9, 0.95), (0.8, 0.9)], "promote"),
        ([(0.9, 0.95), (0.799, 0.9)], "inconclusive"),
        ([(0.9, 0.95), (0.6, 0.799)], "reject"),
        ([(0.5, 0.9), (0.6, 0.799)], "reject"),
    ],
)
def test_every_slice_must_reach_the_accuracy_or_miss_it_by_chance(
    shares: list[tuple[float, float]], outcome: str
) -> None:
    verdict = judge(
        ROWS,
        Slices("slices", 0.8),
        slices=[sliced(*share) for share in shares],
    )
    assert verdict.outcome == outcome
    assert (
        "meta.shop north (40 rows): accuracy "
        f"{shares[-1 if outcome != 'inconclusive' else 1][0]:.4f}" in verdict.reason
    )


def altered(as_it_is: Any, altered: Any) -> Alteration:
    return Alteration({"name": "keyboard"}, 10, as_it_is, altered, Interval(0.1, 0.0, 0.2))


@pytest.mark.parametrize(
    ("after", "outcome"),
    [(0.75, "promote"), (0.7001, "promote"), (0.6999, "reject"), (0.95, "promote")],
)
def test_no_alteration_may_cost_more_than_is_allowed(after: float, outcome: str) -> None:
    verdict = judge(
        ROWS,
        Robustness("robustness", 0.2),
        robustness=[altered(0.9, 0.89), altered(0.9, after)],
    )
    assert verdict.outcome == outcome and "macro-F1 drops by" in verdict.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0001, -0.1, "0.9", None])
def test_evidence_that_is_no_share_is_refused(value: Any) -> None:
    for odd in (sliced(value, 0.9), sliced(0.9, value)):
        verdict = judge(ROWS, Slices("slices", 0.0), slices=[odd])
        assert verdict.outcome == "reject" and "no number from 0 to 1" in verdict.reason
    for pair in ((value, 0.9), (0.9, value)):
        verdict = judge(ROWS, Robustness("robustness", 1.0), robustness=[altered(*pair)])
        assert verdict.outcome == "reject" and "no number from 0 to 1" in verdict.reason


@pytest.mark.parametrize(
    "gate",
    [Slices("slices", 0.0), Robustness("robustness", 1.0), Budget("budget", 20, 1.0, None, None)],
    ids=lambda gate: gate.name,
)
def test_a_gate_without_its_evidence_is_no_promotion(gate: Any) -> None:
    assert judge(ROWS, gate).outcome == "reject"


PRICE = Cost(20, 5.0, 10.0, 200.0, 800.0, 0.0, 90.0)


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        ((10.0, 800.0, 90.0), "promote"),
        ((9.99, None, None), "reject"),
        ((None, 799.0, None), "reject"),
        ((None, None, 89.0), "reject"),
        ((None, None, 91.0), "promote"),
        ((None, None, None), "reject"),
    ],
)
def test_a_budget_is_kept_in_each_limit_that_is_named(
    limits: tuple[Any, Any, Any], outcome: str
) -> None:
    assert judge(ROWS, Budget("budget", 20, *limits), cost=PRICE).outcome == outcome


def test_a_cost_that_is_no_number_is_over_budget() -> None:
    verdict = judge(
        ROWS,
        Budget("budget", 20, 10.0, None, None),
        cost=replace(PRICE, latency_p95_ms=float("nan")),
    )
    assert verdict.outcome == "reject" and "over 10" in verdict.reason


def test_a_baseline_may_have_a_margin_of_its_own() -> None:
    rows = scored(3000, 7, candidate=0.8, champion=0.7).assign(
        probe=lambda found: found["candidate"]
    )
    assert judge(rows, against=("champion", "probe")).outcome == "inconclusive"
    verdict = judge(
        rows,
        BeatsBaseline("beats_baseline", 0.0, {"probe": -0.02}, 0.1),
        against=("champion", "probe"),
    )
    assert {
        name: (of["outcome"], of["margin"]) for name, of in verdict.facts["against"].items()
    } == {
        "champion": ("promote", 0.0),
        "probe": ("promote", -0.02),
    }
    assert verdict.outcome == "promote" and "is not inferior to probe" in verdict.reason


@pytest.mark.parametrize(
    ("outcomes", "together"),
    [
        ([], "reject"),
        (["promote"], "promote"),
        (["promote", "promote"], "promote"),
        (["promote", "inconclusive"], "inconclusive"),
        (["promote", "inconclusive", "reject"], "reject"),
        (["something new"], "inconclusive"),
    ],
)
def test_every_gate_must_say_promote(outcomes: list[str], together: str) -> None:
    assert together_of(outcomes) == together


def test_nobody_to_beat_is_no_promotion() -> None:
    verdict = judge(scored(50, 1, candidate=0.9), against=())
    assert verdict.outcome == "reject" and "nobody" in verdict.reason


@pytest.mark.parametrize("gate", [GATE, FLOOR, EACH, CALIBRATED], ids=lambda gate: gate.name)
def test_an_empty_test_set_is_no_promotion(gate: Any) -> None:
    for empty in (ROWS.iloc[:0], pd.DataFrame()):
        verdict = judge(empty, gate, scores={"macro_f1": 1.0})
        assert verdict.outcome == "reject" and "no test rows" in verdict.reason


@pytest.mark.parametrize("gate", [GATE, EACH], ids=lambda gate: gate.name)
def test_a_label_without_test_rows_is_no_promotion(gate: Any) -> None:
    verdict = judge(ROWS[ROWS["y"] != "d"], gate)
    assert verdict.outcome == "reject" and "no test row bears d" in verdict.reason


@pytest.mark.parametrize("column", ["y", "candidate", "champion"])
def test_a_row_that_a_model_did_not_score_is_no_promotion(column: str) -> None:
    for rows in (
        ROWS.drop(columns=column),
        ROWS.assign(**{column: ROWS[column].where(ROWS.index != 5)}),
    ):
        verdict = judge(rows)
        assert verdict.outcome == "reject" and f"lack a value of {column}" in verdict.reason


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_the_difference_and_every_label_are_those_of_scikit_learn(seed: int) -> None:
    rows = scored(80, seed, candidate=0.7, champion=0.5)
    rows.loc[rows.index[:3], "candidate"] = "a label that nobody declared"
    rows = rows[rows["y"] != "d"] if seed == 0 else rows  # a label without rows
    found = compare(rows)
    for name, value in (("candidate", found.candidate), ("champion", found.baseline)):
        assert value == pytest.approx(
            f1_score(rows["y"], rows[name], labels=LABELS, average="macro", zero_division=0.0)
        )
        each = f1_score(rows["y"], rows[name], labels=LABELS, average=None, zero_division=0.0)
        key = "candidate" if name == "candidate" else "baseline"
        assert [found.parts[label][key] for label in LABELS] == pytest.approx(list(each))
    assert found.difference == pytest.approx(found.candidate - found.baseline)
    assert {label: of["rows"] for label, of in found.parts.items()} == {
        label: int((rows["y"] == label).sum()) for label in LABELS
    }
    assert sum(of["share_of_variance"] for of in found.parts.values()) == pytest.approx(1)


def test_the_bounds_are_near_those_of_a_plain_bootstrap_over_rows() -> None:
    rows = scored(200, 4, candidate=0.8, champion=0.7)
    draw = np.random.default_rng(0)

    def difference(at: np.ndarray) -> float:
        drawn = rows.iloc[at]
        score = [
            f1_score(drawn["y"], drawn[name], labels=LABELS, average="macro", zero_division=0.0)
            for name in ("candidate", "champion")
        ]
        return float(score[0] - score[1])

    plain = [difference(draw.integers(0, 200, 200)) for _ in range(500)]
    found = compare(rows)
    assert found.lower == pytest.approx(np.quantile(plain, 0.05), abs=0.015)
    assert found.upper == pytest.approx(np.quantile(plain, 0.95), abs=0.015)
    assert found.p_value == pytest.approx(np.mean(np.array(plain) <= 0), abs=0.03)


def test_the_metric_that_is_named_decides() -> None:
    """Accuracy is a mean over rows alone.

    No label is short of rows, and none makes most of the uncertainty.
    """
    rows = scored(500, 1, candidate=0.95, champion=0.7)
    rows = rows[rows["y"] != "d"]
    assert judge(rows).outcome == "reject", "no row bears d, so its F1 is unknown"
    by_accuracy = Deciding("accuracy", "accuracy", "accuracy", less=False)
    verdict = judge(rows, metric=by_accuracy)
    right = [(rows["y"] == rows[name]).mean() for name in ("candidate", "champion")]
    found = verdict.facts["against"]["champion"]
    assert (found["candidate"], found["baseline"]) == pytest.approx(right)
    assert (
        verdict.outcome == "promote"
        and verdict.reason.startswith("accuracy 0.9")
        and "uncertainty" not in verdict.reason
    )
    spread = math.sqrt(
        np.var((rows["y"] == rows["candidate"]).astype(float) - (rows["y"] == rows["champion"]))
        / len(rows)
    )
    assert found["difference"] - found["lower"] == pytest.approx(
        statistics.quantile(1 - LEVEL) * spread, rel=0.02
    )


def near(found: Any, kept: Any) -> bool:
    """Return whether documents agree, numbers within the rounding that differs by processor."""
    if isinstance(kept, dict):
        return found.keys() >= kept.keys() and all(near(found[key], of) for key, of in kept.items())
    return (
        found == pytest.approx(kept, rel=1e-9, abs=1e-12)
        if isinstance(kept, float)
        else found == kept
    )


@pytest.mark.parametrize(
    "name", ["questions", "solar_cells", "hymenoptera", "pneumonia", "financial_phrasebank"]
)
def test_the_numbers_are_those_of_the_closed_formulas_that_were_before(name: str) -> None:
    """tests/judged has predictions of five sets, and what the old report and decision said of them.

    report.json and decision.json are from the time when macro-F1 was all that could decide.
    """
    kept = json.loads((ROOT / f"tests/judged/{name}.json").read_text("utf-8"))
    labels = kept["labels"]
    rows = pd.DataFrame(kept["rows"]).map(lambda code: labels[code] if code >= 0 else "another")
    tallies = {model: F1.tally(rows["y"], rows[model], labels) for model in kept["intervals"]}
    for model, tally in tallies.items():
        found = {
            name: evidence.intervals(of.tally(rows["y"], rows[model], labels), of, alpha=1 - 0.95)
            for name, of in classification.METRICS.items()
        }
        said = {name: asdict(of.score) for name, of in found.items()} | {
            "f1": asdict(found["macro_f1"])["parts"]
        }
        assert near(said, kept["intervals"][model]), model
        if model != "candidate":
            beside = evidence.compare(
                tallies["candidate"], tally, F1, margin=0, level=(1 - 0.95) / 2
            )
            assert near(asdict(beside), kept["beside"][model]), model
    margins = {model: of["margin"] for model, of in kept["against"].items()}
    verdict = judge(
        rows, BeatsBaseline("beats_baseline", 0.0, margins, 0.1), tuple(margins), labels=labels
    )
    assert near(verdict.facts["against"], kept["against"])
    assert (verdict.outcome, verdict.reason) == (kept["outcome"], kept["reason"])


def test_a_metric_of_which_only_the_value_is_known_has_the_same_bounds() -> None:
    """Its gradient is taken in small steps.

    Without a share of rows its interval is the delta method's.
    """
    rows = scored(400, 3, candidate=0.8, champion=0.7)
    ratio = F1.value
    plain = replace(F1, value=lambda sums: ratio(sums), share=None)
    exact, stepped = compare(rows), compare(rows, metric=plain)
    assert (stepped.lower, stepped.upper, stepped.difference) == pytest.approx(
        (exact.lower, exact.upper, exact.difference), abs=1e-7
    )
    near, wilson = (
        evidence.intervals(F1.tally(rows["y"], rows["candidate"], LABELS), of, alpha=0.05).score
        for of in (plain, F1)
    )
    assert (near.low, near.high) == pytest.approx((wilson.low, wilson.high), abs=0.01)
    assert near.value - near.low == pytest.approx(near.high - near.value)


def test_the_order_of_rows_changes_no_number() -> None:
    rows = scored(100, 2, candidate=0.8, champion=0.7)
    assert compare(rows) == compare(rows.sample(frac=1, random_state=1).reset_index(drop=True))


def test_mcnemar_is_the_binomial_test_of_the_rows_on_which_the_models_differ() -> None:
    candidate = np.array([True] * 40 + [True] * 13 + [False] * 4 + [False] * 9)
    baseline = np.array([True] * 40 + [False] * 13 + [True] * 4 + [False] * 9)
    assert statistics.mcnemar(candidate, baseline) == pytest.approx(binomtest(13, 17).pvalue)
    assert statistics.mcnemar(candidate, baseline) == pytest.approx(0.049041748)
    assert statistics.mcnemar(candidate, candidate) == 1.0


def test_a_card_escapes_what_comes_from_data() -> None:
    evil = [
        "<img src=x onerror=alert(1)>",
        "[click](http://evil)",
        "a|b",
        "`code`",
        "two\nlines # heading",
        "plain",
    ]
    draw = np.random.default_rng(1)
    y = pd.Series(draw.choice(evil, 60))
    predictions = pd.DataFrame({"y": y, "candidate": y, "majority": "plain"})
    verdict = judge(predictions, against=("majority",), labels=evil)
    shown = evidence.intervals(F1.tally(y, y, evil), F1, alpha=0.05)
    models = dict[str, Model]()
    for name in ("candidate", "majority"):
        scores = classification.measure(y.tolist(), predictions[name].tolist(), evil)
        labels = {label: LabelScores(**of) for label, of in scores.pop("labels").items()}
        rows = scores.pop("rows")
        models[name] = Model(rows, scores, labels, {"macro_f1": shown.score}, shown.parts)
    worse, bins = Interval(0.5, 0.4, 0.6), [Bin(20, 0.9, 0.8, 0.7, 0.9)]
    report = reported(
        models=models,
        calibration=Calibrated(Confidence(1.0, 0.1, bins), Confidence(2.0, 0.05, bins)),
        slices=[Slice(evil[0], evil[1], 20, 0.5, worse, weak=True)],
        robustness=[Alteration({"name": evil[3]}, 9, 0.9, 0.4, worse)],
    )
    stated, facts = (
        Card(intended_use=evil[4], limits=evil[0]),
        card.Facts({evil[2]: Counter(y)}, {evil[2]: len(y)}, [evil[0]], None),
    )
    model = Saved("tiny", {"name": "text"}, "classification", [], Base("base", "0"), "0" * 64)
    measure = {"measure": "script", "distance": 0.5, "limit": 0.1, "far": True}
    decision = Decision(
        task="tiny",
        outcome=verdict.outcome,
        against="baselines",
        damaged="version_1 <b>",
        candidate=Candidate(1, "0", "0" * 64),
        data=Data("s", "0", 60),
        lineage=Lineage("0", "0"),
        verdicts=[verdict],
        drift=Drift("version_1", [measure | {"seen": "<b>LATIN</b>"}]),
    )
    written = card.write(decision, model, report, stated, facts)
    assert "<img" not in written
    assert "`code`" not in written
    assert "[click](http://evil)" not in written
    assert "\n# heading" not in written and "two\nlines" not in written
    tables = [line for line in written.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in tables]
    # Data, drift, models, labels.
    assert widths == [3] * 3 + [5] * 3 + [3] * 4 + [5] * (2 + len(evil))
    assert "<b>" not in written
    assert "| measure |" not in card.write(
        replace(decision, drift=None), model, report, stated, facts
    )
