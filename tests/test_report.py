"""The evaluation page: one file that loads nothing, shows data as data, and has right numbers."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from stages.contract.history import Entry, History
from stages.judging import calibration, evidence, slices
from stages.judging.evidence import Interval
from stages.judging.report import Alteration, Calibration, Deciding, LabelScores, Model, Report
from stages.modalities.image import pictures, saliency
from stages.params.evaluate import Slicing
from stages.problems import classification
from stages.report import page, plots

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=http://evil/x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "abc\u202edcba\u2066",
    "$\\frac{$ two\nlines\ttab\x00",
    "&lt;b&gt;",
]
HISTORY = History(
    [
        Entry(0.5, 1, {"loss": 1.2}, {}),
        Entry(1.0, 2, {"loss": 0.9}, {}),
        Entry(1.0, 2, {}, {"loss": 0.8, "macro_f1": 0.6}),
        Entry(2.0, 4, {"loss": 0.5}, {}),
        Entry(2.0, 4, {}, {"loss": 0.7, "macro_f1": 0.7}),
        Entry(3.0, 6, {"loss": 0.2}, {}),
        Entry(3.0, 6, {}, {"loss": 0.9, "macro_f1": 0.7}),
        Entry(3.0, 6, {"train_loss": 0.7}, {}),
    ],
    kept=2.0,
)


def picture(shade: int) -> "np.ndarray[Any, Any]":
    return np.full((60, 90, 3), shade, dtype=np.uint8)


def predictions(
    labels: list[str], rows: int = 200, seed: int = 1, right: float = 0.8
) -> pd.DataFrame:
    """Return y, candidate and majority, with confidences; the candidate is right that often."""
    draw = np.random.default_rng(seed)
    y = draw.choice(np.array(labels, dtype=object), rows)
    candidate = np.where(
        draw.random(rows) < right, y, draw.choice(np.array(labels, dtype=object), rows)
    )
    return pd.DataFrame(
        {"y": y, "candidate": candidate, "majority": labels[0], "confidence": draw.random(rows)}
    ).astype({"y": str, "candidate": str})


def doubts(*shown: str | bytes) -> list[page.Doubt]:
    """Return rows whose label may be wrong; each text is its own label and origin."""
    return [
        page.Doubt(
            x,
            *([x if isinstance(x, str) else "a"] * 2),
            0.01,
            0.9,
            x if isinstance(x, str) else "b",
            "train",
            dropped=False,
        )
        for x in shown
    ]


def measured(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str]) -> dict[str, Any]:
    return classification.measure(y.tolist(), predicted.tolist(), labels)


def model(
    y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str], scores: dict[str, float]
) -> Model:
    """Return what a model scores, by these scores and those of its labels."""
    by_label = measured(y, predicted, labels)["labels"]
    shown = intervals(y, predicted, labels, 0.05)
    return Model(
        rows=len(y),
        scores=measured(y, predicted, labels) | scores,
        labels={label: LabelScores(**one) for label, one in by_label.items()},
        intervals={name: one.score for name, one in shown.items()},
        parts=shown["macro_f1"].parts,
    )


def write(path: Path, labels: list[str], mistakes: list[page.Mistake], **other: Any) -> str:
    """Write the page of a task with these labels, and return it."""
    rows = predictions(labels)
    y, right = rows["y"], rows["y"] == rows["candidate"]
    headlines = other.pop("headlines", None) or {
        name: {key: measured(y, rows[name], labels)[key] for key in classification.HEADLINES}
        for name in ("candidate", "majority")
    }
    metric = classification.METRICS["macro_f1"]
    tallies = {name: metric.tally(y, rows[name], labels) for name in ("candidate", "majority")}
    candidate, *others = headlines
    logits = np.random.default_rng(1).normal(size=(len(rows), len(labels)))
    cuts = Slicing(bins=2, max_values=len(labels), min_rows=1, distance_rows=200)
    sliced = slices.columns(
        pd.DataFrame({labels[0]: rows["confidence"]}),
        pd.Series([json.dumps({labels[-1]: label}) for label in y]),
        cuts,
    )
    beside = evidence.compare(*tallies.values(), metric, margin=0, level=0.025)

    def confidence(temperature: float) -> Any:
        shown = classification.decode(logits / temperature, labels)["confidence"]
        return calibration.examine(shown, right, temperature, 5, 0.05)

    calibrated = Calibration(confidence(1.0), confidence(2.0))
    report = Report(
        metric=Deciding("macro_f1", metric.title, metric.part, less=False),
        metric_of_slices="accuracy",
        confidence=0.95,
        models={
            name: model(y, rows["candidate" if name == candidate else "majority"], labels, scores)
            for name, scores in headlines.items()
        },
        beside=dict.fromkeys(others, beside),
        calibration=calibrated,
        slices=slices.measure(sliced, classification, y, rows["candidate"], metric, cuts, 0.95),
        robustness=[
            Alteration({"name": label, label: label}, 9, 0.5, 0.4, Interval(0.1, 0.05, 0.2))
            for label in labels
        ],
    )
    pairs = classification.confusions(y, rows["candidate"])
    plots.confusion(pairs, labels, path.with_suffix(".png"))
    told: dict[str, Any] = {
        "task": "reviews",
        "facts": {"base model": "tiny"},
        "less": (),
        "titles": {name: name for of in headlines.values() for name in of}
        | classification.HEADLINES,
        "report": report,
        "cost": {name: {"milliseconds_a_row": 0.1, "megabytes": 2.0} for name in others},
        "taken_for": page.taken_for(pairs),
        "confusion": path.with_suffix(".png").read_bytes(),
        "curves": plots.learning_curves(HISTORY, "macro_f1", "macro-F1"),
        "reliability": plots.reliability(calibrated),
        "mistakes": mistakes,
        "wrong": len(rows),
        "doubts": doubts(*(mistake.x for mistake in mistakes)),
        "doubted": 1234,
        "judged": {"test": 200, "train": 5000},
        "agreed": {"test": 0.5, "train": 0.81},
        "judge_fits": True,
    }
    page.write(path, page.Findings(**(told | other)))
    return path.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Records every element with its attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shapes(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return elements and the names of their attributes, which data must not change."""
    return [(tag, tuple(attributes)) for tag, attributes in Elements(page).found]


def test_no_element_and_no_attribute_comes_out_of_data(tmp_path: Path) -> None:
    """A page of hostile names has the same elements as a page of as many harmless names."""

    def mistakes(texts: list[str]) -> list[page.Mistake]:
        return [page.Mistake(t, t, t, 0.9, t) for t in texts]

    tame = [f"label {i}" for i in range(len(EVIL))]
    written = {}
    for name, texts in (("evil", EVIL), ("tame", tame)):
        headlines = {
            texts[0]: {texts[1]: 0.5},
            texts[2]: {texts[1]: 0.4},
            texts[3]: {texts[1]: 0.5},
        }
        taken = dict.fromkeys(texts, (texts[0], 1))
        written[name] = write(
            tmp_path / f"{name}.html",
            texts,
            mistakes(texts),
            task=texts[0],
            facts={t: t for t in texts},
            headlines=headlines,
            taken_for=taken,
        )
    assert sorted(shapes(written["evil"])) == sorted(shapes(written["tame"]))
    assert {tag for tag, _ in shapes(written["evil"])}.isdisjoint(
        {"script", "svg", "iframe", "object", "link", "base", "form"}
    )
    text = "\n".join(Elements(written["evil"]).text)
    assert "<script>alert(1)</script>" in text  # it is shown, as the text it is
    assert "{{ 7 * 7 }}" in text
    assert "abc\\u202edcba\\u2066" in text
    assert "two\\nlines\\ttab\\x00" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", written["evil"])


@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_page_asks_for_nothing_beyond_itself(kind: str, tmp_path: Path) -> None:
    grey, looked = (
        pictures.thumbnail(picture(90), 50),
        saliency.overlay(picture(90), np.eye(10), 50),
    )
    mistakes = [
        page.Mistake(
            "see http://evil/ and //evil" if kind == "text" else grey,
            "a",
            "b",
            0.9,
            "file:1",
            None if kind == "text" or i else looked,
        )
        for i in range(3)
    ]
    written = write(tmp_path / "page.html", ["a", "b", "c"], mistakes)
    elements = Elements(written).found
    addresses = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "data", "action", "poster"}
    ]
    assert len(addresses) == (4 if kind == "text" else 11)
    assert all(
        str(address).startswith(
            ("data:image/png;base64,", "data:image/jpeg;base64,", "#", "../../validate/")
        )
        for address in addresses
    )
    assert not re.search(r"url\(|@import|https?:", written.replace("http://evil/", ""))
    assert [
        a["content"]
        for tag, a in elements
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ] == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert sum(a.get("class") == "pair" for _, a in elements) == (kind == "image")


def test_a_picture_that_could_hold_a_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither PNG nor JPEG"):
        write(
            tmp_path / "page.html",
            ["a", "b"],
            [page.Mistake(b"<svg onload=alert(1)>", "a", "b", 0.9, "x")],
        )


def test_equal_findings_give_equal_bytes(tmp_path: Path) -> None:
    pages = [
        write(tmp_path / f"{i}.html", ["a", "b $x", "c $"], [page.Mistake("t", "a", "c", 0.9, "x")])
        for i in range(2)
    ]
    assert pages[0] == pages[1]
    assert saliency.overlay(picture(9), np.eye(9), 40) == saliency.overlay(
        picture(9), np.eye(9), 40
    )


def test_the_page_shows_the_numbers_and_the_weakest_label_first(tmp_path: Path) -> None:
    labels = [f"intent {i:02d}" for i in range(40)]
    written = write(tmp_path / "page.html", labels, [])
    rows = predictions(labels)
    macro = f1_score(
        rows["y"], rows["candidate"], average="macro", labels=labels, zero_division=0.0
    )
    assert f"<strong>{macro:.4f}</strong>" in written
    shown = re.findall(
        r'class="label"><bdi>([^<]+)<.*?class="n">([\d.]+) <small>([\d.]+)–([\d.]+)', written, re.S
    )
    each = dict(
        zip(
            labels,
            f1_score(rows["y"], rows["candidate"], average=None, labels=labels, zero_division=0.0),
            strict=True,
        )
    )
    assert [label for label, *_ in shown] == sorted(labels, key=lambda label: (each[label], label))
    assert all(
        f"{each[label]:.3f}" == value and float(low) <= float(value) <= float(high)
        for label, value, low, high in shown
    )


def test_a_task_without_a_mistake_says_so(tmp_path: Path) -> None:
    assert "None: every test row is right." in write(
        tmp_path / "page.html", ["a", "b"], [], wrong=0
    )


def test_doubts_of_a_model_that_is_often_wrong_are_not_told(tmp_path: Path) -> None:
    written = write(tmp_path / "page.html", ["a", "b"], [], judge_fits=False)
    assert "is right on 81% of the train rows" in written and "1,234" not in written


def test_mistakes_are_the_wrong_rows_the_surest_first() -> None:
    rows = predictions(["a", "b", "c"])
    worst = page.worst(rows, rows["confidence"].where(rows["y"] != rows["candidate"], 0.0), 10)
    assert (worst["y"] != worst["candidate"]).all()
    assert (
        worst["confidence"].tolist()
        == sorted(rows.loc[rows["y"] != rows["candidate"], "confidence"], reverse=True)[:10]
    )


def test_a_label_is_mostly_taken_for_the_commonest_wrong_one() -> None:
    y, predicted = pd.Series(list("aaaaaabbc")), pd.Series(list("aaabccccc"))
    assert page.taken_for(classification.confusions(y, predicted)) == {"a": ("c", 2), "b": ("c", 2)}
    assert page.taken_for(
        classification.confusions(pd.Series(list("aa")), pd.Series(list("cb")))
    ) == {"a": ("b", 1)}


def test_learning_curves_mark_the_epoch_that_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with $ is not read as mathematics."""
    import matplotlib.axes

    titles: list[str] = []
    kept = matplotlib.axes.Axes.set_title
    monkeypatch.setattr(
        matplotlib.axes.Axes,
        "set_title",
        lambda self, label, **k: (titles.append(label), kept(self, label, **k))[1],
    )
    drawn = plots.learning_curves(HISTORY, "macro_f1", "macro-F1")
    assert titles == ["loss", "validation macro-F1: 0.7000 in epoch 2, which is kept"]
    assert Image.open(io.BytesIO(drawn)).size[0] > 800
    odd = History([Entry(3.0, 6, {}, {"loss": 0.9, "$\\frac{$": 0.7})], kept=3.0)
    assert plots.learning_curves(odd, "$\\frac{$", "$\\frac{$").startswith(b"\x89PNG")


# Intervals.


def intervals(
    y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str], alpha: float
) -> dict[str, evidence.Intervals]:
    return {
        name: evidence.intervals(of.tally(y, predicted, labels), of, alpha=alpha)
        for name, of in classification.METRICS.items()
    }


def test_an_interval_of_a_label_is_wilson_s_of_its_share_of_right_rows() -> None:
    labels = ["a", "b", "c", "never"]
    rows = predictions(labels[:3], rows=90)
    rows.loc[:1, "candidate"] = "a label that nobody declared"
    found = intervals(rows["y"], rows["candidate"], labels, 0.1)
    each = f1_score(rows["y"], rows["candidate"], labels=labels, average=None, zero_division=0.0)
    for label, f1 in zip(labels[:3], each, strict=False):
        touched = (rows["y"] == label) | (rows["candidate"] == label)
        right = (rows["y"] == label) & (rows["candidate"] == label)
        wilson = binomtest(int(right.sum()), int(touched.sum())).proportion_ci(0.9, method="wilson")
        assert found["macro_f1"].parts[label].value == pytest.approx(f1)
        assert found["macro_f1"].parts[label].low == pytest.approx(
            2 * wilson.low / (1 + wilson.low)
        )
        assert found["macro_f1"].parts[label].high == pytest.approx(
            2 * wilson.high / (1 + wilson.high)
        )
    assert found["macro_f1"].parts["never"] == evidence.Interval(0, 0, 1)
    assert found["macro_f1"].score.value == pytest.approx(each.mean())
    assert found["accuracy"].score.value == pytest.approx(
        accuracy_score(rows["y"], rows["candidate"])
    )


def test_the_interval_of_macro_f1_is_that_of_a_slow_loop_over_rows() -> None:
    """Correlations of the labels' F1 come from the change in each if one row more is counted.

    This is the infinitesimal jackknife.
    """
    labels = list("abcd")
    rows = predictions(labels, rows=120)
    y, predicted = (np.array([labels.index(v) for v in rows[name]]) for name in ("y", "candidate"))

    def f1(weight: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        return np.array(
            [
                2
                * weight[(y == i) & (predicted == i)].sum()
                / (weight[y == i].sum() + weight[predicted == i].sum())
                for i in range(4)
            ]
        )

    small = 1e-6
    influence = np.array(
        [
            (f1(np.ones(120) + small * np.eye(120)[row]) - f1(np.ones(120))) / small
            for row in range(120)
        ]
    )
    correlation = np.corrcoef(influence, rowvar=False)
    found = intervals(rows["y"], rows["candidate"], labels, 0.05)
    half = np.array([(of.high - of.low) / 2 for of in found["macro_f1"].parts.values()])
    reach = (
        np.sqrt(sum(half[i] * half[j] * correlation[i, j] for i in range(4) for j in range(4))) / 4
    )
    assert np.abs(correlation - np.eye(4)).max() > 0.05
    assert found["macro_f1"].score.high - found["macro_f1"].score.value == pytest.approx(
        reach, rel=1e-3
    )
    assert found["macro_f1"].score.value - found["macro_f1"].score.low == pytest.approx(
        reach, rel=1e-3
    )


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_holds_its_value_and_stays_within_0_and_1(seed: int) -> None:
    labels = [f"{i}" for i in range(1 + seed)]
    rows = predictions(labels, rows=3 + 3 * seed, seed=seed, right=(0.0, 0.5, 0.95, 1.0)[seed % 4])
    found = intervals(rows["y"], rows["candidate"], labels, 0.05)
    for of in (found["accuracy"].score, found["macro_f1"].score, *found["macro_f1"].parts.values()):
        assert 0 <= of.low <= of.value <= of.high <= 1
        assert of.low < of.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """400 test sets of known F1, labels 5:3:2, right in 90%.

    95% of the intervals contain the truth, up to 3 standard errors.
    """
    shares, right = np.array([0.5, 0.3, 0.2]), 0.9
    cells = shares[:, None] * ((1 - right) / 2 * (1 - np.eye(3)) + right * np.eye(3))
    truth = 2 * cells.diagonal() / (cells.sum(axis=0) + cells.sum(axis=1))
    labels = ["a", "b", "c"]
    draw = np.random.default_rng(3)
    held = []
    for _ in range(400):
        drawn = draw.choice(9, 150, p=cells.ravel())
        found = intervals(
            *(pd.Series(np.array(labels)[side]) for side in np.divmod(drawn, 3)), labels, 0.05
        )
        inside = [
            of.low <= f1 <= of.high
            for of, f1 in zip(found["macro_f1"].parts.values(), truth, strict=True)
        ]
        held.append(
            [
                *inside,
                found["macro_f1"].score.low <= truth.mean() <= found["macro_f1"].score.high,
                found["accuracy"].score.low <= right <= found["accuracy"].score.high,
            ]
        )
    rate = np.mean(held, axis=0)
    assert (np.abs(rate - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 400)).all(), rate


# Where a model looks.


class LooksAtASquare(torch.nn.Module):
    """A classifier with dropout and batch norm.

    Logit 1 depends on the pixels [4:8, 10:14] alone, and logit 0 on all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        features = self.drop(self.norm(self.conv(pixel_values))) ** 2
        return SimpleNamespace(
            logits=torch.stack(
                [features.sum(dim=(1, 2, 3)), features[:, :, 4:8, 10:14].sum(dim=(1, 2, 3))], dim=1
            )
        )


def test_the_map_is_the_square_that_the_model_depends_on() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(11, 3, 16, 20)
    maps = saliency.saliency(LooksAtASquare(), inputs, [1] * 10 + [0], seed=1)
    assert maps.shape == (11, 16, 20)
    assert maps.min() >= 0 and maps.max() == 1
    square = np.zeros((16, 20), dtype=bool)
    square[4:8, 10:14] = True
    assert (maps[:10, square] > 0.05).all()
    assert (maps[:10, ~square] == 0).all()
    assert (maps[10] > 0).mean() > 0.95  # asked about the label that depends on all


def test_a_model_is_left_as_it_was() -> None:
    model = LooksAtASquare().train()
    model.norm.eval()
    model.conv.bias.requires_grad_(False)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.randn(2, 3, 16, 20)
    before, random = inputs.clone(), torch.get_rng_state()
    with torch.inference_mode():
        first = saliency.saliency(model, inputs, [0, 1], seed=1)
    assert (first == saliency.saliency(model, inputs, [0, 1], seed=1)).all()
    assert (first != saliency.saliency(model, inputs, [0, 1], seed=2)).any()
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(inputs, before) and not inputs.requires_grad
    assert [m.training for m in (model, model.conv, model.norm, model.drop)] == [
        True,
        True,
        False,
        True,
    ]
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    assert (
        torch.equal(model.conv.weight.grad, torch.ones_like(model.conv.weight))
        and model.norm.weight.grad is None
    )
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_model_that_moves_with_nothing_gives_an_empty_map() -> None:
    model = LooksAtASquare()
    torch.nn.init.zeros_(model.conv.weight)
    assert (saliency.saliency(model, torch.randn(1, 3, 16, 20), [1], seed=1) == 0).all()


def test_an_overlay_is_bright_where_the_map_is() -> None:
    where = np.zeros((6, 9))
    where[1:3, 6:8] = 1
    shown = np.asarray(
        Image.open(io.BytesIO(saliency.overlay(picture(60), where, 90))).convert("L"), dtype=float
    )
    assert shown.shape == (60, 90)
    assert shown[12:26, 62:76].mean() > 150
    assert abs(shown[40:, :40].mean() - 60) < 5
    assert Image.open(io.BytesIO(pictures.thumbnail(picture(60), 45))).size == (45, 30)
