"""Users' expectations of a data set, their severity, and Data Docs that open offline."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.checks import data_docs, expectations
from stages.commands import check
from stages.domain.profiles import Profile
from stages.domain.survey import Survey
from stages.params.validate import Domain, Expectation, Uniform, Validate
from tests.conftest import Project, write_csv
from tests.test_bad_inputs import line_of

VALIDATE = Validate(
    max_bad_fraction=0.0, min_rows=4, min_rows_per_label=2, max_label_ratio=2.0,
    max_group_fraction=0.5, max_unknown_tokens=0.2,
    label_distribution=Uniform("uniform", max_kl=0.1),
    domain=Domain("unknown", run_base=False, sample=100, false_alarms=0.03, severity="warning",
                  seed=7),
    expectations=(),
)  # fmt: skip
HOSTILE = "<script>document.title='run'</script><b>&</b>"


def results(
    label: list[str],
    own: tuple[Expectation, ...] = (),
    labels: tuple[str, ...] = ("a", "b"),
    meta: list[str] | None = None,
) -> dict[str, Any]:
    samples = pd.DataFrame(
        {"x": [f"text {i}" for i in range(len(label))], "meta": meta or ["{}"] * len(label)}
    )
    validate = Validate(**{**vars(VALIDATE), "expectations": own})
    shares = {"quarantined": 0.0, "largest_group": 0.0, "unknown_tokens": 0.0}
    survey = Survey(
        Profile({}, None, None, None, [], {}, None, None),
        "uniform",
        dict.fromkeys(labels, 1.0),
        [],
        [],
        [],
    )
    frames = expectations.tables(
        samples,
        pd.Series(label),
        pd.Series(label),
        pd.DataFrame({"characters": [6] * len(label)}),
        list(labels),
        shares,
        survey,
        validate,
    )
    return expectations.run(expectations.suites(validate, list(labels), [], survey), frames)


def expect(
    name: str, severity: str = "critical", table: str = "samples", **arguments: Any
) -> Expectation:
    return Expectation(name, table, arguments, severity)  # pyright: ignore[reportArgumentType]


def failed(found: dict[str, Any], severe: bool = True) -> list[str]:
    return expectations.failures(expectations.verdicts(found), severe, {})


def test_an_even_set_meets_all_and_an_uneven_one_is_told_by_suite() -> None:
    assert failed(results(["a", "b"] * 3)) == []
    rows, ratio, domain = failed(results(["a"] * 5 + ["b"]))
    assert (
        rows.startswith("labels.rows: expect_column_values_to_be_between (min_value 2")
        and "b (1)" in rows
    )
    assert ratio.startswith("labels.ratio: ") and "b (5.0)" in ratio
    assert domain.startswith(
        "domain.label: expect_column_kl_divergence_to_be_less_than (threshold 0.1) observed 0.2"
    )


@pytest.mark.parametrize("label", [[], ["c"] * 6, ["a", "b", "c"] * 2])
def test_nothing_and_unknown_labels_never_pass(label: list[str]) -> None:
    assert failed(results(label))


def test_a_failed_warning_is_told_and_stops_nothing() -> None:
    own = (
        expect("expect_column_mean_to_be_between", "warning", column="characters", min_value=100),
        expect("expect_column_values_to_be_unique", column="x"),
    )
    found = results(["a", "b"] * 3, own)
    assert failed(found) == []
    assert failed(found, severe=False) == [
        "integrity.characters: expect_column_mean_to_be_between (min_value 100.0) observed 6.0"
    ]


def test_a_column_that_is_not_there_is_no_success() -> None:
    (said,) = failed(
        results(
            ["a", "b"] * 3,
            (expect("expect_column_mean_to_be_between", column="price", min_value=1),),
        )
    )
    assert "integrity.price" in said and "nothing it could tell from" in said


def test_an_expectation_without_an_observed_value_passes_where_it_is_met() -> None:
    own = tuple(expect("expect_column_to_exist", column=column) for column in ("x", "price"))
    (said,) = failed(results(["a", "b"] * 3, own))
    assert said.startswith("integrity.price: expect_column_to_exist")


def test_a_column_of_meta_is_named_by_its_prefix_and_holds_numbers_where_all_are() -> None:
    meta = [
        '{"stars": "4", "code": "007", "label": "z"}',
        '{"stars": 5, "code": "", "label": "z"}',
        "{}",
    ] * 2
    own = (
        expect(
            "expect_column_mean_to_be_between", column="meta.stars", min_value=4.5, max_value=4.5
        ),
        expect("expect_column_values_to_match_regex", column="meta.code", regex="^0"),
        expect("expect_column_values_to_be_in_set", column="meta.label", value_set=["z"]),
        expect("expect_column_values_to_be_in_set", column="meta.code", value_set=["008"]),
        expect("expect_column_values_to_not_be_null", column="meta.code", mostly=0.5),
        expect("expect_column_values_to_not_be_null", column="meta.gone"),
        expect("expect_compound_columns_to_be_unique", column_list=["meta.stars", "meta.label"]),
    )
    gone, unique, in_set, not_null = failed(results(["a", "b"] * 3, own, meta=meta))
    assert (
        in_set.startswith("integrity.meta.code: expect_column_values_to_be_in_set")
        and "2 misfit(s): " in in_set
        and "(007)" in in_set
    )
    assert (
        not_null.startswith("integrity.meta.code: expect_column_values_to_not_be_null")
        and "4 misfit(s)" in not_null
    )
    assert gone.startswith("integrity.meta.gone") and "nothing it could tell from" in gone
    assert unique.startswith(
        "integrity.meta.stars, meta.label: expect_compound_columns_to_be_unique"
    )


@pytest.mark.parametrize("name", ["row_condition", "condition_parser"])
def test_an_expression_is_never_run(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: an expression is never run"):
        expect(
            "expect_column_values_to_be_unique",
            column="x",
            **{name: "@__import__('os').system('true') == 0"},
        )


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (expect("expect_column_values_to_shine", column="x"), "expect_column_values_to_shine"),
        (expect("expect_column_mean_to_be_between", column="x", least=3), "least"),
        (expect("expect_column_mean_to_be_between", min_value=3), "column"),
        (expect("expect_column_values_to_match_regex", column="x", regex=["a"]), "regex"),
    ],
)
def test_a_wrong_name_or_argument_is_an_error_of_params(own: Expectation, said: str) -> None:
    (fault,) = expectations.faults(
        Validate(
            **{
                **vars(VALIDATE),
                "expectations": (expect("expect_column_values_to_be_unique", column="x"), own),
            }
        )
    )
    assert fault.startswith("validate.expectations.1: ") and said in fault


def test_data_docs_run_nothing_fetch_nothing_and_are_equal_for_equal_results(
    tmp_path: Path,
) -> None:
    label = [HOSTILE, "b"] * 3
    for name in ("one", "two"):
        data_docs.write(results(label, labels=("b", "${HOSTILE}")), tmp_path / name)
    pages = {path.name: path.read_text() for path in (tmp_path / "one").iterdir()}
    assert pages.keys() == {
        "index.html",
        "integrity.html",
        "labels.html",
        "shares.html",
        "domain.html",
    }
    assert pages == {path.name: path.read_text() for path in (tmp_path / "two").iterdir()}
    for page in pages.values():
        assert "<script" not in page
        assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\((?!["']?data:)""", page)
    assert (
        "&lt;script&gt;document.title=&#x27;run&#x27;&lt;/script&gt;&lt;b&gt;&amp;&lt;/b&gt;"
        in pages["domain.html"]
    )


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_a_browser_without_a_network_shows_style_and_charts(tmp_path: Path) -> None:
    data_docs.write(results(["a", "b"] * 3), tmp_path / "docs")
    log = tmp_path / "net.json"
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--log-net-log={log}",
        "--dump-dom",
    ]
    shown = subprocess.run(
        [*command, (tmp_path / "docs/domain.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert shown.count('class="bar"') == 4
    assert "Kullback-Leibler" in shown


def test_validate_stops_at_a_wrong_expectation_and_writes_docs_of_a_right_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)

    def own(**of: Any) -> None:
        project.params(
            lambda p: p["tasks"]["tiny"]["validate"].update(
                expectations=[{"table": "samples", "severity": "warning"} | of]
            )
        )

    own(
        expectation="expect_column_values_to_match_regex",
        arguments={"column": "x", "regexp": "^[a-z ]+$"},
    )
    assert "tasks.tiny.validate.expectations.0: " in line_of(project.stage("validate", ok=False))
    assert "tasks.tiny.validate" in {found.what for found in check.check() if not found.ok}
    own(expectation="expect_column_values_to_match_regex", arguments={"column": "x", "regex": "^z"})
    said = project.stage("validate").stdout
    assert "not met: integrity.x: expect_column_values_to_match_regex" in said
    assert (
        "1 expectations of your own"
        in {found.what: found.fact for found in check.check()}["tasks.tiny.validate"]
    )
    out = project.root / "data/validate/tiny"
    assert {v["suite"] for v in json.loads((out / "expectations.json").read_text())} == {
        "integrity",
        "labels",
        "shares",
        "domain",
    }
    assert (out / "data_docs/index.html").is_file()


def test_a_refused_set_leaves_its_data_docs(project: Project) -> None:
    path = project.root / "data/raw/reviews/train.csv"
    path.unlink()
    write_csv(
        path,
        [{"text": f"{word} and nothing else", "label": "ask"} for word in ("why", "how", "who")],
    )
    assert "refused" in line_of(project.stage("validate", ok=False))
    assert (project.root / "data/.work/validate/tiny/refused/data_docs/index.html").is_file()
