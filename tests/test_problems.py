"""Regression and multi-label classification, on small real tables, checked against scikit-learn.

Both run whole, and are counted.
"""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sklearn.metrics import f1_score, mean_absolute_error, r2_score

from stages.commands import problems
from stages.contract import manifest, parts, plugins, settings
from stages.contract.errors import DataError, ModelError, ParamsError
from stages.judging import evidence
from stages.layouts import table
from stages.models import loading
from stages.params.augment import Split
from stages.params.data import Columns, DataFile, Table
from stages.params.problems import Classification, MultiLabel, Regression
from stages.problems import classification, multi_label, regression
from tests.conftest import (
    FILLERS,
    ROOT,
    WORDS,
    Project,
    block,
    flows,
    make_project,
    rows,
    write_csv,
)
from tests.test_cases import line_of

STARS = {"blame": 1.0, "ask": 2.5, "praise": 4.0}
TOPICS = MultiLabel("multi_label", None, "|", unlabelled=True)
ADDED = {"multi_label": "MultiLabel", "regression": "Regression"}


def rated() -> list[dict[str, str]]:
    """Return texts and a number that one word of each gives, plus or minus a tenth."""
    return [
        {"text": row["text"], "label": f"{STARS[row['label']] + 0.1 * (i % 3 - 1):g}"}
        for i, row in enumerate(rows(240))
    ]


def tagged() -> list[dict[str, str]]:
    """Return texts of one or two subjects, or of none, and the subjects as a JSON list."""
    made, draw = list[dict[str, str]](), np.random.default_rng(0)
    for row in rows(240):
        kinds = sorted(kind for kind in WORDS if draw.random() < 0.4)
        words = [word for word in row["text"].split() if word in FILLERS]
        words += [str(draw.choice(WORDS[kind])) for kind in kinds]
        made.append({"text": " ".join(words), "label": json.dumps(kinds)})
    return made


def task(source: str, name: str) -> dict[str, Any]:
    """Return a task of a problem: the tests' block with what `refit add` would change in it."""
    made = block(source)
    made["finetune"] |= {"objective": {"name": "standard"}, "epochs": 12}
    made["label_issues"]["model"] = None
    made["evaluate"]["baselines"].append({"name": "tfidf_logistic", "ngrams": [1, 1], "c": 10.0})
    made["register"]["gates"] = made["register"]["gates"][:1]
    if name == "regression":
        made["problem"] = {"name": "regression", "range": [0.0, 5.0]}
        made["validate"] |= dict.fromkeys(
            ("min_rows_per_label", "max_label_ratio", "label_distribution")
        )
        made["finetune"]["best_metric"] = "r2"
        made["register"]["gates"].append({"name": "ceiling", "metric": "mae", "most": 1.0})
    else:
        made["problem"] = {
            "name": "multi_label",
            "labels": None,
            "separator": "|",
            "unlabelled": False,
        }
        made["validate"]["label_distribution"]["max_kl"] = 1.0
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project with a task for each problem, in which every stage has run once."""
    tasks = {"stars": task("stars", "regression"), "topics": task("topics", "multi_label")}
    project = make_project(tmp_path_factory.mktemp("problems") / "project", tiny_base, tasks)
    data = {"stars": [*rated(), {"text": "no rating at all", "label": "good"}], "topics": tagged()}
    for name, written in data.items():
        write_csv(project.root / f"data/raw/{name}/train.csv", written)
    project.run("dvc", "add", "-q", *(f"data/raw/{name}" for name in data))
    for name in data:
        project.through(key=name)
    return project


def read_json(project: Project, name: str) -> Any:
    return json.loads((project.root / "data" / name).read_text())


def predictions(project: Project, key: str) -> pd.DataFrame:
    return pd.read_parquet(project.root / f"data/evaluate/{key}/predictions.parquet")


# ---- run whole -----------------------------------------------------------------------------------


def test_regression_runs_from_a_table_to_a_decision(done: Project) -> None:
    found, metrics = predictions(done, "stars"), read_json(done, "evaluate/stars/metrics.json")
    assert (
        found["y"].dtype == found["candidate"].dtype == float and found["confidence"].isna().all()
    )
    assert metrics["r2"] == pytest.approx(r2_score(found["y"], found["candidate"]))
    assert metrics["mae"] == pytest.approx(mean_absolute_error(found["y"], found["candidate"]))
    assert metrics["r2"] > 0.5, "one word of a text tells its number"
    report = read_json(done, "evaluate/stars/report.json")
    assert (
        report["calibration"] is None
        and report["metric"]["name"] == "r2"
        and report["metric_of_slices"] == "mae"
    )
    decision = read_json(done, "register/stars/decision.json")
    beats, ceiling = decision["verdicts"]
    against = beats["facts"]["against"]
    assert set(against) == {"majority", "tfidf_logistic"} and "R²" in beats["reason"]
    assert against["majority"]["outcome"] == "promote"
    assert ceiling["outcome"] == "promote" and ceiling["facts"]["value"] == metrics["mae"]
    card = (done.root / "data/register/stars/model_card.md").read_text()
    assert "text regression" in card and "precision" not in card


def test_multi_label_runs_from_a_table_to_a_decision(done: Project) -> None:
    found, metrics = predictions(done, "topics"), read_json(done, "evaluate/topics/metrics.json")
    known = sorted(WORDS)
    true, said = (
        np.array([[label in value.split("|") for label in known] for value in found[side]])
        for side in ("y", "candidate")
    )
    assert metrics["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    assert metrics["micro_f1"] == pytest.approx(f1_score(true, said, average="micro"))
    assert metrics["accuracy"] == pytest.approx((found["y"] == found["candidate"]).mean())
    assert metrics["macro_f1"] > 0.6, "a word tells each label; who guesses reaches .4"
    assert found["confidence"].between(0, 1).all() and "" in set(found["y"]), (
        "some rows bear no label"
    )
    report = read_json(done, "evaluate/topics/report.json")
    assert sorted(report["models"]["candidate"]["labels"]) == known
    assert report["calibration"]["as_it_is"]["error"] < 0.5
    beats = read_json(done, "register/topics/decision.json")["verdicts"][0]
    assert beats["facts"]["against"]["majority"]["outcome"] == "promote"


def test_their_pages_and_pictures_show_what_they_have(done: Project) -> None:
    stars, topics = (
        (done.root / f"data/evaluate/{key}/report.html").read_text() for key in ("stars", "topics")
    )
    assert (
        "Predicted beside true" in stars
        and "Labels, the weakest first" not in stars
        and "<h2>Confidence" not in stars
    )
    assert "Worst mistakes" in stars and "Mean absolute error" in stars
    assert "Labels, the weakest first" in topics and "<h2>Confidence" in topics
    pairs = pd.read_csv(done.root / "data/evaluate/topics/confusion.csv")
    assert (
        set(pairs["actual"]) <= {*WORDS, "(none)"}
        and (pairs["actual"] == pairs["predicted"]).mean() > 0.5
    )
    ranges = pd.read_csv(done.root / "data/evaluate/stars/confusion.csv")
    assert ranges["actual"].str.match(r"\d: ").all()


def test_rows_that_are_no_number_are_set_aside_and_parts_hold_the_others(done: Project) -> None:
    quarantine = (done.root / "data/validate/stars/quarantine.csv").read_text()
    assert "no_number" in quarantine and "'good' is no number" in quarantine
    written = [
        manifest.read(done.root / f"data/split/stars/{part}.parquet") for part in manifest.PARTS
    ]
    assert all(len(part) and part["stratum"].isna().all() for part in written)
    topics = [
        manifest.read(done.root / f"data/split/topics/{part}.parquet") for part in manifest.PARTS
    ]
    assert all(set(part["stratum"].dropna()) == set(WORDS) for part in topics)
    assert any(y == [] for part in topics for y in part["y"])


def test_new_rows_are_predicted_as_numbers_and_as_sets(done: Project, tmp_path: Path) -> None:
    write_csv(
        tmp_path / "new.csv",
        [{"text": "the meal was great and lovely"}, {"text": "the train was awful why"}],
    )
    for key, kind in (("stars", float), ("topics", str)):
        out = tmp_path / f"{key}.parquet"
        done.run(
            "refit", "predict", f"data/export/{key}", str(tmp_path / "new.csv"), "--out", str(out)
        )
        assert all(isinstance(value, kind) for value in pd.read_parquet(out)["predicted"])


def test_a_cheap_model_is_adopted_where_it_is_enough(done: Project, tmp_path: Path) -> None:
    project = done.copy(tmp_path / "project")
    for key, metric in (("stars", "R²"), ("topics", "macro-F1")):
        said = project.run("refit", "adopt", key, "tfidf_logistic").stdout
        assert f"{key}@2" in said and metric in said


def test_each_is_one_file_and_its_type() -> None:
    """Besides its own file and its type, no code that stages run names it.

    The guesses and starters of `refit add` are commands.
    """
    code = [path for path in (ROOT / "stages").rglob("*.py") if "commands" not in path.parts]
    for name, kind in ADDED.items():
        naming = re.compile(rf"\b{kind}\b|[\"']{name}[\"']|problems\.{name}\b|import {name}\b")
        touched = sorted(
            str(path.relative_to(ROOT))
            for path in code
            if naming.search(path.read_text()) or path.stem == name
        )
        print(f"{name}: {len(touched)} files: {', '.join(touched)}")
        assert touched == ["stages/params/problems.py", f"stages/problems/{name}.py"]


# ---- what a cell says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "y"),
    [
        ('["rain", "wind"]', ["rain", "wind"]),
        ("['wind', 'rain']", ["rain", "wind"]),
        ("wind|rain", ["rain", "wind"]),
        (" rain | wind ", ["rain", "wind"]),
        ('{"rain": "1", "sun": "0", "wind": "1.0"}', ["rain", "wind"]),
        ("rain|rain", ["rain"]),
        ("[]", []),
        ("", []),
        ('{"rain": "0", "wind": "no"}', []),
        ('{"rain": "0", "wind": "2"}', "no_flag"),
        ("rain||wind", "no_label"),
        ('["rain|wind"]', "no_label"),
    ],
)
def test_labels_are_read_as_a_list_a_text_or_columns(cell: str, y: Any) -> None:
    found = multi_label.read(pd.Series([cell]), TOPICS)
    assert (found["code"][0] or found["y"][0]) == y


def test_an_empty_cell_is_no_label_only_where_that_is_said() -> None:
    strict = MultiLabel("multi_label", None, "|", unlabelled=False)
    assert multi_label.read(pd.Series([""]), strict)["code"][0] == "no_label"
    named = MultiLabel("multi_label", {"r": "rain"}, "|", unlabelled=False)
    assert multi_label.read(pd.Series(["r", "r|s"]), named)[["y", "code"]].to_numpy().tolist() == [
        [["rain"], None],
        [[], "unknown_label"],
    ]


@pytest.mark.parametrize(
    "cell", ["", "good", "1,5", "nan", "inf", "1e999", "1_000", "0x10", "1 2", "٣"]
)
def test_what_is_no_number_is_set_aside(cell: str) -> None:
    assert (
        regression.read(pd.Series([cell]), Regression("regression", None))["code"][0] == "no_number"
    )


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_a_number_is_read_as_it_was_meant(number: float) -> None:
    found = regression.read(pd.Series([repr(number)]), Regression("regression", None))
    assert regression.values(found["y"])[0] == number


def test_a_number_out_of_range_is_set_aside() -> None:
    found = regression.read(
        pd.Series(["0.9", "1", "5.0", "5.1"]), Regression("regression", (1.0, 5.0))
    )
    assert found["code"].isna().tolist() == [False, True, True, False]


def test_a_list_of_labels_is_no_label_of_classification() -> None:
    found = classification.read(
        pd.Series(["a", '["a", "b"]', "['a']"]), Classification("classification", None)
    )
    assert found["code"].tolist() == [None, "several_labels", "several_labels"]


def test_a_list_and_columns_of_labels_come_out_of_every_kind_of_table(tmp_path: Path) -> None:
    texts = [row["text"] for row in tagged()[:6]]
    lists = [["rain"], [], ["rain", "wind"], ["wind"], [], ["sun"]]
    pd.DataFrame({"text": texts, "tags": lists}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(
        "".join(
            json.dumps({"text": t, "tags": y}) + "\n" for t, y in zip(texts, lists, strict=True)
        )
    )
    flags = {name: [int(name in y) for y in lists] for name in ("rain", "sun", "wind")}
    pd.DataFrame({"text": texts, **flags}).to_csv(tmp_path / "b.csv", index=False)
    read = list[Any]()
    for file, y in (("a.parquet", "tags"), ("a.jsonl", "tags"), ("b.csv", tuple(flags))):
        layout = Table("table", (DataFile(file, None, None),), Columns("text", y), None)
        rows_of = table.read(tmp_path, layout, "utf-8", plugins.modality("text"))
        read.append(multi_label.read(rows_of["y"], TOPICS)["y"].tolist())
    assert read == [lists] * 3


# ---- what metrics and models say -----------------------------------------------------------------


def problem_of(name: str) -> tuple[ModuleType, pd.Series, pd.Series, list[str]]:
    """Return a problem, true and predicted values, and labels."""
    drawn = np.random.default_rng(1)
    if name == "regression":
        y = pd.Series(drawn.normal(3, 2, 400))
        return regression, y, y + pd.Series(drawn.normal(0.2, 1, 400)), []
    labels = ["rain", "sun", "wind"]
    sets = drawn.random((400, 3)) < 0.4
    wrong = sets ^ (drawn.random((400, 3)) < 0.2)
    y, predicted = (
        pd.Series(multi_label.truth(side, labels), dtype=object) for side in (sets, wrong)
    )
    return multi_label, y, predicted, labels


@pytest.mark.parametrize("name", ADDED)
def test_the_score_of_the_evidence_is_what_measure_says(name: str) -> None:
    problem, y, predicted, labels = problem_of(name)
    measured = problem.measure(y.tolist(), predicted.tolist(), labels)
    for key, metric in problem.METRICS.items():
        assert evidence.score(metric.tally(y, predicted, labels), metric) == pytest.approx(
            measured[key]
        )


@pytest.mark.parametrize("name", ADDED)
def test_intervals_hold_what_resampling_the_rows_gives(name: str) -> None:
    problem, y, predicted, labels = problem_of(name)
    drawn = np.random.default_rng(2)
    for metric in problem.METRICS.values():
        found = evidence.intervals(metric.tally(y, predicted, labels), metric, alpha=0.05).score
        scores = []
        for _ in range(200):
            rows_of = drawn.integers(0, len(y), len(y))
            sampled = [side.iloc[rows_of].reset_index(drop=True) for side in (y, predicted)]
            scores.append(evidence.score(metric.tally(*sampled, labels), metric))
        low, high = np.quantile(scores, [0.025, 0.975])
        assert found.high - found.low == pytest.approx(high - low, rel=0.35)


@pytest.mark.parametrize("name", ADDED)
def test_a_comparison_says_by_how_much_the_better_one_is_better_whatever_the_metric(
    name: str,
) -> None:
    problem, y, predicted, labels = problem_of(name)
    for metric in problem.METRICS.values():
        better, worse = (metric.tally(y, side, labels) for side in (y, predicted))
        found = evidence.compare(better, worse, metric, margin=0.0, level=0.05)
        assert found.difference > 0 and found.lower > 0 and found.p_value < 0.01
        same = evidence.compare(worse, worse, metric, margin=0.0, level=0.05)
        assert same.difference == 0 and same.lower <= 0 <= same.upper and np.isfinite(same.p_value)


def test_a_linear_model_of_numbers_finds_the_line_and_one_of_labels_finds_each() -> None:
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(300, 4))
    weights, bias = regression.fit(x, 100 * x[:, 0] + 7, 1, 1e3, balanced=False)
    assert np.allclose(weights, [[100, 0, 0, 0]], atol=0.1) and bias[0] == pytest.approx(7, abs=0.1)
    targets = np.stack([x[:, 0] > 0, x[:, 1] > 0, np.zeros(300), np.ones(300)], axis=1).astype(
        float
    )
    weights, bias = multi_label.fit(x, targets, 4, 1.0, balanced=False)
    said = x @ weights.T + bias > 0
    assert (said == targets).mean(axis=0).min() > 0.95


def test_a_problem_that_learned_nothing_is_at_chance_and_one_that_did_is_not() -> None:
    drawn = np.random.default_rng(0)
    y = drawn.normal(size=300)
    assert regression.at_chance(y, np.full((300, 1), y.mean() + 0.1)) and not regression.at_chance(
        y, y[:, None] * 0.5
    )
    sets = (drawn.random((300, 2)) < 0.3).astype(float)
    assert multi_label.at_chance(sets, drawn.normal(size=(300, 2))) and not multi_label.at_chance(
        sets, 4 * sets - 2
    )
    assert not regression.at_chance(y[:100], np.zeros((100, 1))), "of few rows nobody can say so"


def test_rows_without_a_stratum_are_parted_too_and_no_part_may_be_empty() -> None:
    samples = pd.DataFrame({"id": [f"{i}" for i in range(60)], "stratum": None, "given_part": None})
    samples = samples.assign(source_id=samples["id"], group=samples["id"])
    split = Split(7, 0.2, 0.2)
    assert set(parts.assign(samples, split).part) == set(manifest.PARTS)
    with pytest.raises(DataError, match="has no row"):
        parts.assign(samples.head(2), split)


# ---- what refit add guesses ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "name", "why"),
    [
        (["a", "b"], "classification", None),
        (["1", "2", "3", "4", "5"], "classification", None),
        ([str(i) for i in range(40)], "classification", None),
        (["a|b", "a", "b|c"], "multi_label", "parted by a bar"),
        (["a,b", "a", "b", "c,a"], "multi_label", "parted by a comma"),
        (["Washington, DC", "Portland, ME", "Boston"], "classification", None),
        (['["a", "b"]', "[]"], "multi_label", "lists"),
        (["['a', 'b']", "['a']"], "multi_label", "lists"),
    ],
)
def test_the_problem_is_guessed_as_a_person_would(
    cells: list[str], name: str, why: str | None
) -> None:
    found, said = problems.guess(pd.Series(cells * 10), 1, "data")
    assert found["name"] == name and ((said is None) if why is None else why in str(said))


@pytest.mark.parametrize(
    "cells", [[f"{i / 7:.3f}" for i in range(40)], [str(10 * i) for i in range(40)]]
)
def test_numbers_of_many_values_are_asked_about(cells: list[str]) -> None:
    with pytest.raises(
        DataError,
        match="say --problem regression where they measure something, --problem classification",
    ):
        problems.guess(pd.Series(cells), 1, "data")


def test_add_writes_a_block_for_each_problem(done: Project, tmp_path: Path) -> None:
    project = done.copy(tmp_path / "project")
    price = [
        {"text": row["text"] + f" {i}", "label": f"{i * 1.5:g}"} for i, row in enumerate(rows(90))
    ]
    write_csv(tmp_path / "price.csv", price)
    refused = project.run(
        "refit", "add", "price", str(tmp_path / "price.csv"), "--base", "tiny_bert", ok=False
    )
    assert "labels are numbers, 90 different ones from 0 to 133.5" in line_of(refused)
    said = project.run(
        "refit",
        "add",
        "price",
        str(tmp_path / "price.csv"),
        "--base",
        "tiny_bert",
        "--problem",
        "regression",
    ).stdout
    assert "regression, 90 rows of numbers from 0 to 133.5" in said
    write_csv(
        tmp_path / "tags.csv",
        [
            {"text": f"{row['text']} {i}", "tags": json.loads(row["label"])}
            for i, row in enumerate(tagged()[:90])
        ],
    )
    said = project.run(
        "refit", "add", "tags", str(tmp_path / "tags.csv"), "--base", "tiny_bert"
    ).stdout
    assert "multi_label, 90 rows of 3 labels" in said and "labels are lists" in said
    flags = [
        {"text": f"{row['text']} {i}", **{kind: int(kind in row["label"]) for kind in WORDS}}
        for i, row in enumerate(tagged()[:90])
    ]
    write_csv(tmp_path / "flags.csv", flags)
    columns = [of for kind in WORDS for of in ("--label", kind)]
    said = project.run(
        "refit", "add", "flags", str(tmp_path / "flags.csv"), "--base", "tiny_bert", *columns
    ).stdout
    assert (
        "a label each of columns 'praise', 'blame', 'ask'" in said
        and "multi_label, 90 rows" in said
    )
    line = line_of(
        project.run(
            "refit", "add", "more", str(tmp_path / "tags.csv"), "--problem", "ranking", ok=False
        )
    )
    assert line.startswith(
        "refit: --problem ranking: is none; there are classification, multi_label, regression"
    )


# ---- what is refused -----------------------------------------------------------------------------


CROSS_ENTROPY = {"name": "cross_entropy", "label_smoothing": 0.0, "class_weights": "none"}
WORDS_ALONE = {"name": "tfidf_logistic", "ngrams": [1, 1], "c": 1.0}
REFUSED: dict[str, tuple[str, Any]] = {
    "evaluate.metric: the problem regression has no macro_f1; it has r2, mae, rmse": (
        "evaluate.metric",
        "macro_f1",
    ),
    "finetune.objective: the problem regression has no cross_entropy; it has standard": (
        "finetune.objective",
        CROSS_ENTROPY,
    ),
    "validate.min_rows_per_label: the problem regression has no labels; say null": (
        "validate.min_rows_per_label",
        3,
    ),
    "label_issues.model: a row of the problem regression is not one label; say null": (
        "label_issues.model",
        WORDS_ALONE,
    ),
    "gates.0: each_label is about labels, which the problem regression has not": (
        "register.gates",
        [{"name": "each_label", "least": 0.5}],
    ),
    "gates.0.metric: the problem regression has no mae; it has r2": (
        "register.gates",
        [{"name": "floor", "metric": "mae", "least": 0.5}],
    ),
    "gates.0.metric: the problem regression has no r2; it has mae, rmse": (
        "register.gates",
        [{"name": "ceiling", "metric": "r2", "most": 0.5}],
    ),
    "range must be [least, most]": ("problem.range", [5.0, 1.0]),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_a_problem_does_not_have_is_one_line_that_names_the_key(
    said: str, tmp_path: Path
) -> None:
    place, value = REFUSED[said]
    section, _, key = place.partition(".")
    document = {"flows": flows(), "sources": {}, "tasks": {"stars": task("stars", "regression")}}
    document["tasks"]["stars"][section][key] = value
    YAML().dump(document, tmp_path / "params.yaml")
    for name in ("tiny_bert", "stars"):
        (tmp_path / "data/raw" / name).mkdir(parents=True)
    with pytest.raises(ParamsError, match=re.escape(said)) as refused:
        settings.load(tmp_path / "params.yaml")
    assert "1 mistake: tasks.stars" in str(refused.value)


def test_a_problem_without_a_head_for_the_modality_is_one_line(tiny_base: Path) -> None:
    with pytest.raises(
        ModelError,
        match="there is no head of it for the modality video; it has one for text, image, audio",
    ):
        loading.load(regression, tiny_base, "video", [], new_head=True)
