"""evaluate in full: confidence, slices, rows made worse, cost, and cheap models.

A cheap model can also be registered and serve.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForSequenceClassification

from stages.commands.adopt import adopt
from stages.commands.lineage import lineage
from stages.commands.predict import Asked, predict
from stages.commands.promote import promote
from stages.contract import manifest, plugins, receipts, settings
from stages.contract.errors import ModelError, ParamsError, ReceiptError
from stages.contract.runner import Job
from stages.evaluate import _write_confusion
from stages.judging import calibration, cost, evidence, robustness, slices, statistics
from stages.models import cheap, scoring
from stages.models.saved import Base, Saved
from stages.params.compute import Compute
from stages.params.evaluate import Alterations, Slicing
from stages.params.image import Albumentations, HogLogistic, ImageModality
from stages.params.text import Case, Keyboard, TfidfCharacters, TfidfLogistic
from stages.problems.classification import METRICS
from stages.registry import candidate, registered
from stages.report import page
from tests.conftest import Project, rows
from tests.test_image import write_pictures

F1 = METRICS["macro_f1"]

CHEAP = [
    {"name": "majority"},
    {"name": "tfidf_logistic", "ngrams": [1, 1], "c": 10.0},
    {"name": "probe_logistic", "c": [1.0], "max_rows": 100},
]
CUTS = Slicing(bins=4, max_values=3, min_rows=1, distance_rows=100)
TEXTS = pd.DataFrame(rows(200))
EVERY = [
    TfidfLogistic("tfidf_logistic", (1, 2), 10.0),
    TfidfCharacters("tfidf_characters", (2, 3), 10.0),
]


# Confidence.


def drawn(
    rows: int, sharper: float, seed: int = 0
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Return logits of four labels, and targets drawn by the logits over `sharper`."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(rows, 4)) * 2
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits * sharper, (probability.cumsum(axis=1) < draw.random((rows, 1))).sum(axis=1)


@pytest.mark.parametrize("sharper", [0.5, 1.0, 3.0])
def test_the_temperature_is_by_how_much_a_model_is_too_sure(sharper: float) -> None:
    logits, targets = drawn(20_000, sharper)
    found = calibration.temperature(plugins.problem("classification"), logits, targets)
    assert found == pytest.approx(sharper, rel=0.05)
    right = pd.Series(logits.argmax(axis=1) == targets)
    before, after = (
        calibration.examine(confidence(logits / t), right, t, 10, 0.05) for t in (1.0, found)
    )
    assert after.error < 0.02
    assert sharper == 1.0 or before.error > 5 * after.error


def test_bins_hold_all_rows_and_their_error_is_the_gate_s() -> None:
    logits, targets = drawn(500, 3.0)
    right = pd.Series(logits.argmax(axis=1) == targets)
    found = calibration.examine(confidence(logits), right, 1.0, 10, 0.05)
    assert [of.rows for of in found.bins] == [50] * 10
    assert found.error == pytest.approx(
        np.mean([abs(of.confidence - of.right) for of in found.bins])
    )
    wilson = binomtest(
        int(right[statistics.in_bins(confidence(logits), 10) == 0].sum()), 50
    ).proportion_ci(0.95, method="wilson")
    assert (found.bins[0].low, found.bins[0].high) == pytest.approx((wilson.low, wilson.high))


def confidence(logits: "np.ndarray[Any, Any]") -> "pd.Series[float]":
    return plugins.problem("classification").decode(logits, list("abcd"))["confidence"]


# Slices.


def test_numbers_are_sliced_in_ranges_and_words_by_value() -> None:
    meta = pd.Series(
        [
            json.dumps(
                {
                    "stars": str(i),
                    "shop": "north" if i % 2 else "south",
                    "link": f"http://{i}",
                    "gap": None,
                }
            )
            for i in range(40)
        ]
    )
    found = slices.columns(pd.DataFrame({"characters": np.arange(40) ** 2}), meta, CUTS)
    # A link has too many values, a gap none.
    assert found.columns.tolist() == ["characters", "meta.stars", "meta.shop"]
    assert found["meta.stars"].value_counts().to_dict() == {
        "0 to 9": 10,
        "10 to 19": 10,
        "20 to 29": 10,
        "30 to 39": 10,
    }
    assert found["characters"].iloc[0] == "0 to 81"
    assert set(found["meta.shop"]) == {"north", "south"}


def test_equal_numbers_share_a_slice_and_a_missing_value_is_in_none() -> None:
    meta = pd.Series(
        [json.dumps({"year": None if i == 0 else 1990 if i < 30 else i}) for i in range(40)]
    )
    found = slices.columns(pd.DataFrame(index=meta.index), meta, CUTS)["meta.year"]
    assert found.iloc[1:30].nunique() == 1 and found.isna().tolist() == [True] + [False] * 39


def test_the_weakest_slice_stands_first_with_an_interval_that_allows_for_all() -> None:
    y = pd.Series(list("ab") * 60)
    part = pd.Series(["far"] * 40 + ["near"] * 80)
    predicted = y.where(~((part == "far") & (np.arange(120) % 4 == 0)), "b")
    found = slices.measure(
        pd.DataFrame({"domain": part}),
        plugins.problem("classification"),
        y,
        predicted,
        F1,
        CUTS,
        0.95,
    )
    far = part == "far"
    assert [(of.slice, of.rows, of.interval.value) for of in found] == [
        ("far", 40, 0.75),
        ("near", 80, 1.0),
    ]
    assert found[0].score == pytest.approx(f1_score(y[far], predicted[far], average="macro"))
    wilson = binomtest(30, 40).proportion_ci(0.975, method="wilson")  # two slices share .05
    assert (found[0].interval.low, found[0].interval.high) == pytest.approx(
        (wilson.low, wilson.high)
    )
    some = slices.measure(
        pd.DataFrame({"domain": part}),
        plugins.problem("classification"),
        y,
        predicted,
        F1,
        Slicing(4, 3, 41, 100),
        0.95,
    )
    assert [of.slice for of in some] == ["near"]


def test_the_metric_that_params_names_decides_from_the_report_to_the_registry(
    done: Project, tmp_path: Path
) -> None:
    project = done.copy(tmp_path / "project")
    project.params(lambda p: p["tasks"]["tiny"]["evaluate"].update(metric="accuracy"))
    said = project.through("evaluate", "register").root / "data"
    metrics, report, decision = (receipts.read_json(said / name) for name in (
        "evaluate/tiny/metrics.json", "evaluate/tiny/report.json",
        "register/tiny/decision.json"))  # fmt: skip
    rows = pd.read_parquet(said / "evaluate/tiny/predictions.parquet")
    (name, baseline), *_ = metrics["baselines"].items()
    assert baseline == {"accuracy": pytest.approx((rows["y"] == rows[name]).mean())}
    assert report["beside"][name]["difference"] == pytest.approx(
        metrics["accuracy"] - baseline["accuracy"]
    )
    verdict = next(of for of in decision["verdicts"] if of["gate"] == "beats_baseline")
    assert verdict["reason"].startswith("accuracy ")
    assert "Gain is the candidate’s accuracy less" in (
        said / "evaluate/tiny/report.html"
    ).read_text("utf-8")


# Rows made worse, and what a model costs.


@pytest.fixture(scope="module")
def scorer(done: Project) -> scoring.Scorer:
    return scoring.load(done.root / "data/finetune/tiny", compute())


def compute() -> Compute:
    return Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=32)


def test_an_alteration_that_the_tokenizer_undoes_costs_nothing_and_typos_cost_much(
    done: Project, scorer: scoring.Scorer
) -> None:
    test = manifest.read(done.root / "data/split/tiny/test.parquet")
    y, predicted = test["y"].str[0], scorer.decode(scoring.score(scorer, test), test)["predicted"]
    worse = Alterations(7, 1000, (Case("case", "upper"), Keyboard("keyboard", 1.0, 1.0)))
    upper, typos = robustness.measure(scorer, test, y, F1, worse, 0.05)
    assert upper.transform == {"name": "case", "to": "upper"}
    assert (upper.rows, upper.drop.value, upper.as_it_is) == (
        len(test),
        0.0,
        pytest.approx(f1_score(y, predicted, average="macro")),
    )
    assert (
        typos.drop.value == pytest.approx(typos.as_it_is - typos.altered) and typos.drop.value > 0.1
    )
    assert typos.drop.low < typos.drop.value < typos.drop.high
    order = test.sample(frac=1, random_state=1)
    assert robustness.measure(scorer, order, y[order.index], F1, worse, 0.05) == [upper, typos]
    few = Alterations(7, 20, worse.transforms)
    assert robustness.measure(scorer, order, y, F1, few, 0.05) == robustness.measure(
        scorer, test, y, F1, few, 0.05
    )
    assert robustness.measure(scorer, test, y, F1, Alterations(7, 20, ()), 0.05) == []


def test_a_picture_is_altered_the_same_way_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BitImageProcessor

    write_pictures(tmp_path / "data/raw/colours", 3)
    monkeypatch.chdir(tmp_path)
    of_x = plugins.modality("image")
    samples = pd.DataFrame({"id": list("abc"), "x": [f"raw/colours/red/{i}.png" for i in range(3)]})
    sizes = ImageModality("image", (16, 200), 40_000, (16, 200), 32, 32, ("as_is",))
    processor = BitImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    noise = Albumentations("albumentations", "GaussNoise", {"p": 1.0, "std_range": [0.1, 0.1]})
    as_it_is, altered = (
        of_x.encoding.encode(samples, processor, sizes),
        of_x.encoding.encode_altered(samples, processor, sizes, noise, 7),
    )
    alone = of_x.encoding.encode_altered(samples.iloc[[2]], processor, sizes, noise, 7)
    assert (alone[0]["pixel_values"] == altered[2]["pixel_values"]).all()
    collate = of_x.encoding.collate(processor)
    added = collate([altered[0]])["pixel_values"] - collate([as_it_is[0]])["pixel_values"]
    assert 0.05 < float(added.std()) < 0.4
    assert (
        of_x.encoding.encode_altered(samples, processor, sizes, noise, 8)[0]["pixel_values"]
        != altered[0]["pixel_values"]
    ).any()


def _metered(folder: Path, samples: pd.DataFrame) -> cost.Cost:
    meter, ballast = cost.Meter(), np.ones(100_000_000)  # 763 MiB that are not the model's
    assert ballast.all()
    return meter.measure(folder, samples, compute())


@pytest.mark.slow
def test_cost_is_that_of_a_process_of_its_own(done: Project) -> None:
    folder = done.root / "data/finetune/tiny"
    # Like a stage's, this process starts with nothing.
    with ProcessPoolExecutor(1, get_context("forkserver")) as stage:
        found = stage.submit(
            _metered, folder, TEXTS.head(30).rename(columns={"text": "x"})
        ).result()
    assert found.rows == 30
    assert 0 < found.latency_p50_ms <= found.latency_p95_ms < 1000
    assert found.rows_per_second > 1000 / found.latency_p95_ms
    assert 100 < found.peak_memory_mib < 750
    assert found.megabytes * 1e6 == pytest.approx(
        sum(path.stat().st_size for path in (folder / "model").iterdir())
    )


# Cheap models.


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("model", EVERY, ids=lambda model: model.name)
def test_a_cheap_model_of_texts_predicts_what_scikit_learn_does_before_and_after_it_is_saved(
    model: Any, labels: int, tmp_path: Path
) -> None:
    from sklearn.linear_model import LogisticRegression

    known = TEXTS[TEXTS["label"].isin(sorted(set(TEXTS["label"]))[:labels])]
    x, y, asked = (
        known["text"].to_numpy(),
        known["label"],
        pd.Series([*known["text"], "", "nothing known", "good bad why"]),
    )
    theirs = cheap.untrained(
        model, LogisticRegression(C=10.0, max_iter=1000, solver="newton-cg")
    ).fit(x, y)
    fitted = fit(model, x, y)
    found = cheap.outputs(fitted, asked.to_numpy())
    probability = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
    assert np.abs(probability - theirs.predict_proba(asked)).max() < 1e-5
    check_saved(fitted, tmp_path, asked, found)


def fit(model: Any, x: "np.ndarray[Any, Any]", y: "pd.Series[str]") -> cheap.Fitted:
    labels = sorted(y.unique())
    return cheap.fit(
        model,
        plugins.problem("classification"),
        x,
        np.array(pd.Categorical(y, labels).codes),
        labels,
    )


def check_saved(
    fitted: cheap.Fitted, folder: Path, x: "pd.Series[str]", found: "np.ndarray[Any, Any]"
) -> None:
    cheap.save(
        fitted,
        folder,
        Saved(
            "tiny",
            {"name": "text", "characters": [1, 9], "median_characters": [1, 9], "max_tokens": 9},
            "classification",
            [],
            Base("base", "0"),
            "",
        ),
    )
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "model.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    assert (cheap.score(cheap.load(folder, scoring.verified(folder)), x) == found).all()


def test_a_cheap_model_of_pictures_is_the_same_after_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "data/raw/colours", 20)
    monkeypatch.chdir(tmp_path)
    x = pd.Series([f"raw/colours/{label}/{i}.png" for label in ("red", "blue") for i in range(20)])
    y = x.str.split("/").str[2]
    model = HogLogistic("hog_logistic", 0.01)
    fitted = fit(model, cheap.features(model, x), y)
    found = cheap.outputs(fitted, cheap.features(model, x))
    assert (np.array(fitted.labels)[found.argmax(axis=1)] == y).all()
    check_saved(fitted, tmp_path / "saved", x, found)


def test_the_smallest_model_that_is_not_shown_to_be_worse_is_enough() -> None:
    price = {
        "majority": {"megabytes": 0.0},
        "small": {"megabytes": 1.0},
        "large": {"megabytes": 90.0},
    }
    rows = pd.Series(list("ab") * 20)
    tally = F1.tally(rows, rows, ["a", "b"])
    same = evidence.compare(tally, tally, F1, margin=0, level=0.05)

    def enough(**lower: float) -> str | None:
        return page.enough({name: replace(same, lower=of) for name, of in lower.items()}, price)

    assert enough(majority=-1, small=0.01, large=-0.01) == "large"
    assert enough(small=0.0, large=-0.01) == "small"
    assert enough(majority=-1, small=0.01) is None
    assert enough(small=float("nan")) == "small"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, finished: Project) -> Project:
    """A project whose `tiny` is judged beside three cheap models, with its cost measured."""
    project = finished.copy(tmp_path_factory.mktemp("judged") / "project")

    def change(document: Any) -> None:
        task = document["tasks"]["tiny"]
        task["evaluate"] |= {"baselines": CHEAP, "cost_rows": 20}
        task["register"]["gates"] += [{"name": "budget", "rows": 20, "latency_p95_ms": 500,
                                       "peak_memory_mib": 3000, "megabytes": 50},
                                      {"name": "slices", "least": 0.0},
                                      {"name": "robustness", "most": 1.0}]  # fmt: skip

    project.params(change)
    return project.through("evaluate", "register")


def test_timing_says_what_each_model_costs_and_no_metric_does(judged: Project) -> None:
    timing = receipts.read_json(judged.root / "data/evaluate/tiny/timing.json")["models"]
    assert timing.keys() == {"candidate", "majority", "tfidf_logistic", "probe_logistic"}
    assert timing["candidate"]["rows"] == 20
    base = (judged.root / "data/raw/tiny_bert/model.safetensors").stat().st_size / 1e6
    assert (
        timing["majority"]["megabytes"]
        == 0
        < timing["tfidf_logistic"]["megabytes"]
        < 0.1
        < base
        < timing["probe_logistic"]["megabytes"]
    )
    assert all(
        "milliseconds"
        not in json.dumps(receipts.read_json(judged.root / f"data/evaluate/tiny/{name}.json"))
        for name in ("metrics", "report")
    )
    lock = receipts.read_json(judged.root / "data/register/tiny/dvc_lock.json")
    assert not [
        out
        for out in lock["evaluate@tiny"]["outs"]
        if out["path"].endswith(("timing.json", "report.html"))
    ]


def test_register_measures_the_budget_itself(judged: Project) -> None:
    verdicts = {
        of["gate"]: of
        for of in receipts.read_json(judged.root / "data/register/tiny/decision.json")["verdicts"]
    }
    assert {
        name: of["outcome"]
        for name, of in verdicts.items()
        if name in ("budget", "slices", "robustness")
    } == dict.fromkeys(("budget", "slices", "robustness"), "promote")
    assert (
        verdicts["budget"]["facts"]["cost"]["rows"] == 20
        and verdicts["budget"]["facts"]["cost"]["peak_memory_mib"] > 100
    )
    card = (judged.root / "data/register/tiny/model_card.md").read_text()
    assert all(
        head in card
        for head in ("## Intended use", "## Data", "## Results", "## Where it is weak", "## Cost")
    )


@pytest.mark.slow
def test_a_cheap_model_is_registered_promoted_and_serves(
    judged: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = judged.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    before = registered.champion("tiny")
    done = adopt("tiny", "tfidf_logistic")
    assert adopt("tiny", "tfidf_logistic") == done  # registering again makes no second version
    assert registered.champion("tiny") == before
    number = int(done.model.partition("@")[2])
    told = lineage(done.model)
    assert (told.damaged, told.sha256, "finetune" in told.params) == ([], done.sha256, False)
    promote("tiny", number, "as good, and a hundredth of the size")
    pd.DataFrame({"text": TEXTS["text"].head(60)}).to_csv("new.csv", index=False)
    predict("tiny", Asked(Path("new.csv"), out=Path("new.parquet")))
    found = pd.read_parquet("new.parquet")
    assert (found["predicted"] == TEXTS["label"].head(60)).mean() > 0.9
    project.repro("--force", "--single-item", "register@tiny")
    decision = receipts.read_json(Path("data/register/tiny/decision.json"))
    assert decision["against"] == f"version_{number}"
    column = pd.read_parquet("data/evaluate/tiny/predictions.parquet")
    f1 = f1_score(column["y"], column["tfidf_logistic"], average="macro")
    assert (
        decision["verdicts"][0]["facts"]["against"][f"version_{number}"]["baseline"]
        == pytest.approx(f1)
        == done.score
    )


@pytest.mark.slow
def test_the_probe_is_registered_as_the_model_that_it_is(
    judged: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = judged.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    done = adopt("tiny", "probe_logistic")
    assert adopt("tiny", "probe_logistic") == done
    column = pd.read_parquet("data/evaluate/tiny/predictions.parquet")
    assert done.score == pytest.approx(
        f1_score(column["y"], column["probe_logistic"], average="macro")
    )
    number = int(done.model.partition("@")[2])
    with TemporaryDirectory() as folder:
        kept = registered.download(registered.version("tiny", str(number)), Path(folder))
        assert AutoModelForSequenceClassification.from_pretrained(
            kept / "model"
        ).config.id2label == dict(enumerate(sorted(set(column["y"]))))
    promote("tiny", number, "as good, and trained in seconds")
    pd.DataFrame({"text": TEXTS["text"].head(60)}).to_csv("new.csv", index=False)
    predict("tiny", Asked(Path("new.csv"), out=Path("new.parquet")))
    found = pd.read_parquet("new.parquet")
    assert set(found["predicted"]) <= set(column["y"])


@pytest.mark.parametrize(
    ("baseline", "error", "fact"),
    [
        ("majority", ModelError, "learned nothing"),
        ("hog_logistic", ParamsError, "it has: majority, tfidf_logistic, probe_logistic"),
        ("../x", ParamsError, "has no ../x"),
    ],
)
def test_what_is_no_cheap_model_of_the_task_is_not_registered(
    baseline: str,
    error: type[Exception],
    fact: str,
    judged: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(judged.root)
    with pytest.raises(error, match=fact):
        adopt("tiny", baseline)


def test_the_probe_is_logistic_regression_on_the_base_s_own_embeddings(
    judged: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.models import activations

    monkeypatch.chdir(judged.root)
    task = settings.task("tiny")
    of = plugins.modality("text"), plugins.problem("classification")
    parts = {
        name: manifest.read(Path(f"data/split/tiny/{name}.parquet")) for name in manifest.PARTS
    }
    known = (
        pd.concat(
            [
                parts["train"][parts["train"]["id"] == parts["train"]["source_id"]],
                parts["validation"],
            ]
        )
        .sort_values("id")
        .head(100)
    )
    seen = [
        activations.see(Path("data/raw/tiny_bert"), part, *of, task.modality, task.compute).features
        for part in (known, parts["test"])
    ]
    fitted = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0, max_iter=1000, tol=1e-8)
    ).fit(seen[0], known["y"].str[0])
    base = activations.Base(Path("data/raw/tiny_bert"), *of, task.modality, task.compute)
    assert np.array_equal(base.embed(known)[::-1], base.embed(known[::-1])), (
        "a row's embedding is its own, in whatever order it is asked for"
    )
    assert base.holds(known, task.modality) and not base.holds(parts["test"], task.modality)
    assert not base.holds(known, replace(task.modality, max_tokens=3))
    expected = fitted.predict(seen[1])
    assert (
        pd.read_parquet("data/evaluate/tiny/predictions.parquet")["probe_logistic"].tolist()
        == expected.tolist()
    )


# What register refuses.


def test_metrics_of_another_model_or_of_other_rows_are_refused_each_by_its_own_reason(
    judged: Project, tmp_path: Path
) -> None:
    folder = judged.root / "data/evaluate/tiny"
    whole = {
        path: path.read_bytes() for path in (folder / "provenance.json", folder / "metrics.json")
    }
    made_from = receipts.read_json(folder / "provenance.json")
    model, test = "data/export/tiny/model/model.safetensors", "data/split/tiny/test.parquet"
    before = (judged.root / "data/register/tiny/decision.json").read_bytes()
    for path, fact in (
        (model, "its metrics are of another model"),
        (test, "its metrics are of other test rows"),
    ):
        receipts.write_json(
            folder / "provenance.json",
            made_from | {"inputs": made_from["inputs"] | {path: "0" * 64}},
        )
        refused = judged.stage("register", ok=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and fact in refused.stderr
    (folder / "provenance.json").write_bytes(whole[folder / "provenance.json"])
    (folder / "metrics.json").write_bytes(
        whole[folder / "metrics.json"].replace(b'"accuracy": 0.', b'"accuracy": 0.9')
    )
    refused = judged.stage("register", ok=False)
    assert (
        refused.returncode == 2
        and "metrics.json: not the bytes that its receipt signed" in refused.stderr
    )
    for path, content in whole.items():
        path.write_bytes(content)
    assert (judged.root / "data/register/tiny/decision.json").read_bytes() == before


def test_a_label_that_is_a_formula_is_shown_in_confusion_csv(tmp_path: Path) -> None:
    _write_confusion(
        pd.DataFrame({"actual": ["=1+1", "b"], "predicted": ["b", "@x"]}),
        Job("evaluate", "tiny", tmp_path, tmp_path),
    )
    assert (tmp_path / "confusion.csv").read_text().split() == [
        "actual,predicted",
        "'=1+1,b",
        "b,'@x",
    ]


def test_predictions_of_other_rows_are_refused(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done.root)
    job = Job("register", "tiny", Path("out"), Path("work"))
    test = manifest.read(job.take("split", "test.parquet"))
    candidate.require_same(
        job, predictions := manifest.read_table(job.take("evaluate", "predictions.parquet")), test
    )
    with pytest.raises(ReceiptError, match="of other test rows"):
        candidate.require_same(job, predictions.iloc[1:], test)


def test_equal_runs_of_evaluate_give_equal_bytes_but_for_seconds(
    judged: Project, tmp_path: Path
) -> None:
    project = judged.copy(tmp_path / "project")
    before = receipts.read_json(project.root / "data/evaluate/tiny/receipt.json")
    # The cost comes from a process of its own, which writes seconds alone.
    project.params(lambda p: p["tasks"]["tiny"]["evaluate"].update(cost_rows=None))
    project.stage("evaluate")
    assert (
        receipts.read_json(project.root / "data/evaluate/tiny/receipt.json") == before
        and "report.html" not in before
    )
