"""Labels that may be wrong: altered ones are found, and dropping touches train alone.

Nothing held out and no duplicate has a say.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import SGDClassifier

from benchmarks import checks
from stages.checks import label_issues
from stages.models import cheap
from stages.params.evaluate import LabelIssues
from stages.params.text import TfidfCharacters, TfidfLogistic
from tests.conftest import Project, rows, write_csv

SETTINGS = LabelIssues(
    TfidfLogistic("tfidf_logistic", (1, 1), 10.0), folds=5, max_rows=1000, seed=7, drop=False
)


def samples(texts: list[str]) -> pd.DataFrame:
    """Return originals, each in its own group."""
    ids = [f"row{i:04d}" for i in range(len(texts))]
    return pd.DataFrame(
        {
            "id": ids,
            "source_id": ids,
            "group": ids,
            "x": texts,
            "origin": [f"train.csv:{i + 2}" for i in range(len(texts))],
        }
    )


def made(number: int = 300) -> tuple[pd.DataFrame, "pd.Series[str]", "pd.Series[str]"]:
    """Return samples whose words give their label, parts, a fifth of them held out, and labels."""
    table = rows(number)
    part = pd.Series(["train" if i % 5 else "test" for i in range(number)])
    return samples([row["text"] for row in table]), part, pd.Series([row["label"] for row in table])


def test_altered_labels_are_found_and_stand_first() -> None:
    found, _, y = made()
    measured = checks.doubted(found, y, SETTINGS, 0.05)
    assert measured["altered"] == 15
    assert measured["recall"] >= 0.8
    assert measured["precision"] >= 0.7
    listed, _ = label_issues.find(
        found, pd.Series("train", index=y.index), y.where(y.index != 4, "praise"), SETTINGS
    )
    first = listed.iloc[0]
    assert (first["id"], first["label"], first["suggested"], first["part"], first["origin"]) == (
        "row0004",
        "praise",
        y[4],
        "train",
        "train.csv:6",
    )
    assert first["probability_of_label"] < first["probability_of_suggested"]


def test_a_model_that_is_often_wrong_itself_doubts_no_label() -> None:
    """Labels are drawn: evenly, and so that one of them alone is right in eight of ten rows."""
    found, part, _ = made()
    for shares in ([0.34, 0.33, 0.33], [0.8, 0.1, 0.1]):
        y = pd.Series(np.random.default_rng(0).choice(["a", "b", "c"], len(found), p=shares))
        listed, looked = label_issues.find(found, part, y, SETTINGS)
        assert (len(listed), looked["fit"], looked["judged"]["train"]) == (0, False, 240)


@pytest.mark.parametrize(
    "model", [SETTINGS.model, TfidfCharacters("tfidf_characters", (2, 4), 10.0)]
)
def test_counting_once_gives_what_counting_in_each_fold_would(
    model: TfidfLogistic | TfidfCharacters,
) -> None:
    found, part, y = made()
    # A word in no other row, which a fold may not know.
    found.loc[found.index % 50 == 3, "x"] += " " + found["id"]
    settings = replace(SETTINGS, model=model)
    rows = label_issues._drawn(found.assign(part=part, label=y), settings)
    labels = sorted(y.unique())
    once = label_issues._probabilities(rows, labels, settings)
    for fold in rows["fold"].unique():
        known, asked = (rows["part"] == "train") & (rows["fold"] != fold), rows["fold"] == fold
        classifier = SGDClassifier(
            loss="log_loss", alpha=1 / (model.c * known.sum()), random_state=settings.seed
        )
        fitted = cheap.untrained(model, classifier).fit(rows["x"][known], rows["label"][known])
        # The sums are in another order.
        np.testing.assert_allclose(once[asked], fitted.predict_proba(rows["x"][asked]), rtol=1e-9)


def test_a_held_out_label_is_judged_and_says_nothing_of_a_train_row() -> None:
    found, part, y = made()
    y = checks.altered(y, 0.1, np.random.default_rng(1))
    before, _ = label_issues.find(found, part, y, SETTINGS)
    turned = y.where(part == "train", y.map({"praise": "blame", "blame": "ask", "ask": "praise"}))
    after, looked = label_issues.find(found, part, turned, SETTINGS)
    assert looked["judged"] == {"test": 60, "train": 240}
    assert len(before[before["part"] == "train"]) > 10
    pd.testing.assert_frame_equal(
        *(of[of["part"] == "train"].reset_index(drop=True) for of in (before, after))
    )
    assert (after["part"] == "test").sum() != (before["part"] == "test").sum()


def test_duplicates_do_not_vouch_for_one_another() -> None:
    """Twenty copies of a wrongly labelled text: learning from some would make the others right."""
    found, _, y = made()
    text = " ".join(["unheard", "of", *found["x"][1].split()])
    copies = samples([text] * 20).assign(id=[f"copy{i:02d}" for i in range(20)], group="copy00")
    together = pd.concat([found, copies.assign(source_id=copies["id"])], ignore_index=True)
    labels = pd.concat(
        [y, pd.Series(["praise" if y[1] != "praise" else "ask"] * 20)], ignore_index=True
    )
    everywhere = pd.Series("train", index=labels.index)
    listed, _ = label_issues.find(together, everywhere, labels, SETTINGS)
    apart, _ = label_issues.find(
        together.assign(group=together["id"]), everywhere, labels, SETTINGS
    )
    assert listed["id"].str.startswith("copy").sum() == 20
    assert apart["id"].str.startswith("copy").sum() < 20


def test_order_says_nothing_and_no_more_rows_than_wanted_are_judged() -> None:
    found, part, y = made()
    y = checks.altered(y, 0.1, np.random.default_rng(1))
    stated = replace(SETTINGS, max_rows=200)
    first, looked = label_issues.find(found, part, y, stated)
    mixed = found.sample(frac=1, random_state=3).index
    again, _ = label_issues.find(
        *(of.loc[mixed].reset_index(drop=True) for of in (found, part, y)), stated
    )
    assert sum(looked["judged"].values()) == 200
    pd.testing.assert_frame_equal(first, again)


def test_labels_too_rare_to_stand_in_every_fold_are_not_judged() -> None:
    found, part, y = made()
    y[[1, 2, 3, 4]] = "rare"  # of train
    y[5] = "held out alone"
    listed, looked = label_issues.find(found, part, y, SETTINGS)
    assert looked["labels"] == ["ask", "blame", "praise"]
    assert not set(listed["label"]) & {"rare", "held out alone"}
    y[6] = "rare"
    assert "rare" in label_issues.find(found, part, y, SETTINGS)[1]["labels"]


@pytest.mark.parametrize("change", [{"model": None}, {"folds": 200}, {"max_rows": 5}])
def test_where_nothing_can_be_judged_nothing_is_listed(change: dict[str, Any]) -> None:
    listed, looked = label_issues.find(*made(), replace(SETTINGS, **change))
    assert listed.empty
    assert looked["judged"] == looked["accuracy"] == {}


def test_at_most_half_of_a_label_is_listed() -> None:
    """A label drawn at random is believed of none of its rows."""
    found, part, y = made()
    y[y.index % 7 == 1] = "noise"
    listed, _ = label_issues.find(found, pd.Series("train", index=part.index), y, SETTINGS)
    counts = y.value_counts()
    assert 0 < (listed["label"] == "noise").sum() <= counts["noise"] // 2


def test_dropping_leaves_listed_train_rows_out_with_their_copies_and_nothing_else(
    project: Project,
) -> None:
    table = rows()
    for row in table[:40:4]:
        row["label"] = {"praise": "blame", "blame": "ask", "ask": "praise"}[row["label"]]
    write_csv(project.root / "data/raw/reviews/train.csv", table)
    project.params(lambda params: params["tasks"]["tiny"]["augment"].update(share=0.9))
    for stage in ("validate", "augment", "split"):
        project.stage(stage)
    folder = project.root / "data/split/tiny"
    kept = {
        name: pd.read_parquet(folder / f"{name}.parquet")
        for name in ("train", "validation", "test")
    }
    issues = json.loads((folder / "label_issues.json").read_text())["issues"]
    assert {issue["part"] for issue in issues} > {"train"}
    assert not any(issue["dropped"] for issue in issues)

    project.params(lambda params: params["tasks"]["tiny"]["label_issues"].update(drop=True))
    said = project.stage("split").stdout
    after = {name: pd.read_parquet(folder / f"{name}.parquet") for name in kept}
    wrong = [issue for issue in issues if issue["part"] == "train"]
    left = kept["train"][~kept["train"]["source_id"].isin([issue["id"] for issue in wrong])]
    assert len(kept["train"]) - len(left) > len(wrong)  # copies too
    pd.testing.assert_frame_equal(after["train"], left.reset_index(drop=True))
    pd.testing.assert_frame_equal(after["validation"], kept["validation"])
    pd.testing.assert_frame_equal(after["test"], kept["test"])
    again = json.loads((folder / "label_issues.json").read_text())["issues"]
    assert again == [issue | {"dropped": issue["part"] == "train"} for issue in issues]
    named = json.loads((folder / "leakage.json").read_text())["train_rows_whose_label_may_be_wrong"]
    assert named == {"rows": len(wrong), "origins": sorted(issue["origin"] for issue in wrong)}
    assert f"{len(issues)} labels may be wrong, {len(wrong)} rows of train dropped for it" in said
