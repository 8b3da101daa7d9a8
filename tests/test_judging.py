"""Judging: equal models are not promoted, better ones are, and every number is the one that scikit-learn and scipy give."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from stages.contract.params import BeatsBaseline, Floor
from stages.judging import card, gates, statistics
from stages.problems import classification

LABELS = ["a", "b", "c", "d"]
GATE = BeatsBaseline(name="beats_baseline", margin=0.0, alpha=0.05, resamples=1000, seed=7)
FLOOR = Floor(name="floor", metric="macro_f1", least=0.5)


def scored(rows: int, seed: int, **accuracy: float) -> pd.DataFrame:
    """Return y and predictions of models that are right independently with a given probability; labels are 4:3:2:1."""
    draw = np.random.default_rng(seed)
    y = draw.choice(LABELS, rows, p=[0.4, 0.3, 0.2, 0.1])
    found = {"y": y}
    for name, share in accuracy.items():
        found[name] = np.where(draw.random(rows) < share, y, draw.choice(LABELS, rows))
    return pd.DataFrame(found)


def judge(predictions: pd.DataFrame, gate: Any = GATE, against: tuple[str, ...] = ("champion",)) -> dict[str, Any]:
    return gates.judge(gate, predictions, {}, list(against), LABELS)


def compare(rows: pd.DataFrame, **settings: Any) -> statistics.Comparison:
    return statistics.compare(
        rows["y"], rows["candidate"], rows["champion"], LABELS, **({"margin": 0.0, "alpha": 0.05, "resamples": 1000, "seed": 7} | settings)
    )


def test_equal_models_are_promoted_at_most_as_often_as_alpha_says() -> None:
    """A/A: 400 test sets, two models of equal skill; the gate may be wrong in 5% of them (here up to 3 standard errors more)."""
    outcomes = pd.Series([judge(scored(300, seed, candidate=0.8, champion=0.8))["outcome"] for seed in range(400)])
    rate = outcomes.value_counts(normalize=True)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert rate.get("promote", 0) <= limit, rate
    assert rate.get("reject", 0) <= limit, rate
    assert rate["inconclusive"] > 0.8


def test_the_same_predictions_are_never_promoted() -> None:
    rows = scored(500, 1, champion=0.7)
    assert judge(rows.assign(candidate=rows["champion"]))["outcome"] == "reject"


def test_a_clearly_better_model_is_promoted_and_a_clearly_worse_one_rejected() -> None:
    assert judge(scored(500, 1, candidate=0.95, champion=0.7))["outcome"] == "promote"
    assert judge(scored(500, 1, candidate=0.7, champion=0.95))["outcome"] == "reject"


def test_a_small_test_set_is_inconclusive_and_says_what_it_could_have_shown() -> None:
    verdict = judge(scored(25, 0, candidate=0.85, champion=0.75))
    assert verdict["outcome"] == "inconclusive"
    found = verdict["against"]["champion"]
    assert found["lower"] <= 0 < found["upper"]
    assert found["smallest_detectable"] > abs(found["difference"])
    assert f"these rows can show {found['smallest_detectable']:.4f} or more" in verdict["reason"]


def test_the_difference_must_exceed_the_margin() -> None:
    rows = scored(2000, 1, candidate=0.9, champion=0.85)
    assert judge(rows)["outcome"] == "promote"
    assert judge(rows, BeatsBaseline("beats_baseline", 0.2, 0.05, 1000, 7))["outcome"] == "reject"


def test_one_opponent_that_is_not_beaten_is_enough() -> None:
    rows = scored(500, 1, candidate=0.8, weak=0.3, strong=0.97)
    verdict = judge(rows, against=("weak", "strong"))
    assert verdict["outcome"] == "reject"
    assert {name: of["outcome"] for name, of in verdict["against"].items()} == {"weak": "promote", "strong": "reject"}
    assert "does not beat strong" in verdict["reason"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.4999])
def test_a_metric_below_the_floor_or_not_a_number_fails(value: float) -> None:
    assert gates.judge(FLOOR, pd.DataFrame(), {"macro_f1": value}, [], LABELS)["outcome"] == "reject"


def test_a_metric_at_the_floor_reaches_it() -> None:
    assert gates.judge(FLOOR, pd.DataFrame(), {"macro_f1": 0.5}, [], LABELS)["outcome"] == "promote"


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
    assert gates.together([{"outcome": o} for o in outcomes]) == together


def test_nobody_to_beat_is_no_promotion() -> None:
    with pytest.raises(ValueError, match="empty"):
        judge(scored(50, 1, candidate=0.9), against=())


def test_an_empty_test_set_is_no_promotion() -> None:
    with pytest.raises((ValueError, ZeroDivisionError)):
        judge(scored(50, 1, candidate=0.9, champion=0.1).iloc[:0])


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_the_difference_and_every_label_are_those_of_scikit_learn(seed: int) -> None:
    rows = scored(80, seed, candidate=0.7, champion=0.5)
    rows.loc[rows.index[:3], "candidate"] = "a label that nobody declared"
    rows = rows[rows["y"] != "d"] if seed == 0 else rows  # a label without rows
    found = compare(rows)
    for name, value in (("candidate", found.candidate), ("champion", found.baseline)):
        assert value == pytest.approx(f1_score(rows["y"], rows[name], labels=LABELS, average="macro", zero_division=0.0))
        each = f1_score(rows["y"], rows[name], labels=LABELS, average=None, zero_division=0.0)
        key = "candidate_f1" if name == "candidate" else "baseline_f1"
        assert [found.by_label[label][key] for label in LABELS] == pytest.approx(list(each))
    assert found.difference == pytest.approx(found.candidate - found.baseline)
    assert {label: of["rows"] for label, of in found.by_label.items()} == {label: int((rows["y"] == label).sum()) for label in LABELS}
    assert sum(of["share_of_variance"] for of in found.by_label.values()) == pytest.approx(1)


def test_the_bounds_are_those_of_a_plain_bootstrap_over_rows() -> None:
    rows = scored(200, 4, candidate=0.8, champion=0.7)
    draw = np.random.default_rng(0)

    def difference(at: np.ndarray) -> float:
        drawn = rows.iloc[at]
        score = [f1_score(drawn["y"], drawn[name], labels=LABELS, average="macro", zero_division=0.0) for name in ("candidate", "champion")]
        return float(score[0] - score[1])

    plain = [difference(draw.integers(0, 200, 200)) for _ in range(500)]
    found = compare(rows, resamples=20_000)
    assert found.lower == pytest.approx(np.quantile(plain, 0.05), abs=0.015)
    assert found.upper == pytest.approx(np.quantile(plain, 0.95), abs=0.015)
    assert found.p_value == pytest.approx(np.mean(np.array(plain) <= 0), abs=0.03)


def test_the_order_of_rows_changes_no_number() -> None:
    rows = scored(100, 2, candidate=0.8, champion=0.7)
    assert compare(rows) == compare(rows.sample(frac=1, random_state=1).reset_index(drop=True))


def test_mcnemar_is_the_binomial_test_of_the_rows_on_which_the_models_differ() -> None:
    candidate = pd.Series([True] * 40 + [True] * 13 + [False] * 4 + [False] * 9)
    baseline = pd.Series([True] * 40 + [False] * 13 + [True] * 4 + [False] * 9)
    assert statistics.mcnemar(candidate, baseline) == pytest.approx(binomtest(13, 17).pvalue)
    assert statistics.mcnemar(candidate, baseline) == pytest.approx(0.049041748)
    assert statistics.mcnemar(candidate, candidate) == 1.0


def test_a_card_escapes_what_comes_from_data() -> None:
    evil = ["<img src=x onerror=alert(1)>", "[click](http://evil)", "a|b", "`code`", "two\nlines # heading", "plain"]
    draw = np.random.default_rng(1)
    y = pd.Series(draw.choice(evil, 60))
    predictions = pd.DataFrame({"y": y, "candidate": y, "majority": "plain"})
    verdict = gates.judge(GATE, predictions, {}, ["majority"], evil)
    report = {name: classification.measure(y.tolist(), predictions[name].tolist(), evil) for name in ("candidate", "majority")}
    model = {"modality": {"name": "text"}, "problem": "classification", "base": {"source": "tiny"}, "sha256": "0" * 64}
    decision = {
        "task": "tiny",
        "outcome": verdict["outcome"],
        "against": "baselines",
        "damaged": "version_1 <b>",
        "verdicts": [verdict],
        "drift": {"against": "version_1", "measures": [{"measure": "script", "distance": 0.5, "limit": 0.1, "far": True, "seen": "<b>LATIN</b>"}]},
        "candidate": {"model_sha256": "0" * 64},
        "data": {"source": "s", "md5": "0", "test_rows": 60},
    }
    written = card.write(decision, model, report)
    assert "<img" not in written
    assert "`code`" not in written
    assert "[click](http://evil)" not in written
    assert "\n# heading" not in written and "two\nlines" not in written
    tables = [line for line in written.splitlines() if line.startswith("|")]
    assert len(tables) == 2 + 2 + 2 + len(evil) + 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables[-len(evil) - 3 :]} == {6}
    assert "<b>" not in written
    assert "| measure |" not in card.write(decision | {"drift": None}, model, report)
