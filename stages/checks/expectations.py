"""State what a data set must satisfy, as Great Expectations suites.

Only this module and data_docs.py import great_expectations.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.contract.escape import extract, one_line
from stages.domain.distances import Measure
from stages.domain.survey import Survey
from stages.params.validate import Validate

META = "meta."  # prefix of the name of a column that is neither x nor label
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"  # JSON's: 007 is no number
Expectation = dict[str, Any]  # a Great Expectations type and its kwargs


@dataclass(frozen=True)
class Suite:
    """What one of the tables must satisfy.

    The tables are samples (a row for each sample), labels (a row for each label), shares (one row),
    known and distances.
    """

    table: str
    expectations: list[Expectation]


def suites(
    validate: Validate, labels: list[str], of_features: list[Expectation], survey: Survey
) -> dict[str, Suite]:
    """Return the suites by name.

    integrity, labels and shares say whether the data set is whole; domain and distances say whether
    it is of the expected kind. Map expectations pass on an empty table and on nulls, so
    expectations on the row count and on nulls always accompany them. If nothing was compared, there
    is no suite of distances.
    """
    stated = {"integrity": Suite("samples", _of_samples(validate, of_features))}
    if labels:
        stated["labels"] = Suite("labels", _of_labels(validate, labels))
    stated["shares"] = Suite("shares", _of_shares(validate))
    if of := validate.label_distribution:
        stated["domain"] = Suite("known", [_like(survey.weights, of.max_kl)])
    if survey.measures:
        stated["distances"] = Suite("distances", [_near(validate.domain.severity)])
    return stated


def _expectation(type: str, **kwargs: Any) -> Expectation:
    return {"type": type, "kwargs": kwargs}


def _of_samples(validate: Validate, of_features: list[Expectation]) -> list[Expectation]:
    return [
        _expectation("expect_table_row_count_to_be_between", min_value=validate.min_rows),
        _expectation("expect_column_values_to_not_be_null", column="x"),
        _expectation("expect_column_values_to_not_be_null", column="label"),
        *of_features,
        *_of_user(validate, "samples"),
    ]


def _of_labels(validate: Validate, labels: list[str]) -> list[Expectation]:
    """Return what the labels must satisfy.

    There must be at least two and none that is not stated, each with the rows that validate asks
    for.
    """
    limits = (
        ("rows", "min_value", validate.min_rows_per_label),
        ("ratio", "max_value", validate.max_label_ratio),
    )
    return [
        _expectation("expect_table_row_count_to_be_between", min_value=2),
        _expectation("expect_column_values_to_be_in_set", column="label", value_set=labels),
        *(
            _expectation("expect_column_values_to_be_between", column=column, **{limit: value})
            for column, limit, value in limits
            if value is not None
        ),
        *_of_user(validate, "labels"),
    ]


def _of_shares(validate: Validate) -> list[Expectation]:
    limits = {
        "quarantined": validate.max_bad_fraction,
        "largest_group": validate.max_group_fraction,
        "unknown_tokens": validate.max_unknown_tokens,
    }
    return [
        _expectation("expect_column_max_to_be_between", column=column, max_value=most)
        for column, most in limits.items()
        if most is not None
    ]


def _like(weights: dict[str, float], most: float) -> Expectation:
    """Return the expectation that limits how far labels may be from these weights."""
    total = sum(weights.values())
    partition = {
        "values": list(weights),
        "weights": [weight / total for weight in weights.values()],
    }
    return _expectation(
        "expect_column_kl_divergence_to_be_less_than",
        column="label",
        partition_object=partition,
        threshold=most,
    )


def _near(severity: str) -> Expectation:
    """Return the expectation that no distance exceeds its own limit."""
    near = _expectation("expect_column_values_to_be_between", column="over_limit", max_value=1.0)
    return near | {"severity": severity}


def _of_user(validate: Validate, table: str) -> list[Expectation]:
    return [
        {"type": of.expectation, "kwargs": of.arguments, "severity": of.severity}
        for of in validate.expectations
        if of.table == table
    ]


def faults(validate: Validate) -> list[str]:
    """Return what Great Expectations' own signatures reject in the user's expectations."""
    if not validate.expectations:
        return []  # importing Great Expectations takes three seconds
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.registry import get_expectation_impl

    wrong = list[str]()
    for i, of in enumerate(validate.expectations):
        arguments: dict[str, Any] = of.arguments
        try:
            get_expectation_impl(of.expectation)(**arguments)
        except (GreatExpectationsError, ValueError, TypeError) as error:
            wrong.append(f"validate.expectations.{i}: {one_line(error, 300)}")
    return wrong


def tables(
    samples: pd.DataFrame,
    values: "pd.Series[Any]",
    label: "pd.Series[str]",
    features: pd.DataFrame,
    labels: list[str],
    shares: dict[str, float],
    survey: Survey,
    validate: Validate,
) -> dict[str, pd.DataFrame]:
    """Return the tables that the suites look at.

    ratio is the number of rows of the largest label over the number of rows of this label (0 counts
    as 1). values are the values of y; label has the labels that rows bear, one at a time. samples
    has columns of meta too, but only those that an expectation names. known has the labels that the
    reference knows too; distances has a row for each measure, with its own limit.
    """
    return {
        "known": pd.DataFrame({"label": label[~label.isin(survey.new)]}),
        "distances": pd.DataFrame([_row(of) for of in survey.measures]),
        "samples": features.assign(x=samples["x"], label=values, **_of_meta(samples, validate)),
        "labels": _counted(label, labels),
        "shares": pd.DataFrame([{"label": "all", **shares}]),
    }


def _row(of: Measure) -> dict[str, str | float]:
    over = float(f"{of.over_limit:.4g}")
    return {"label": of.measure, "distance": of.distance, "limit": of.limit, "over_limit": over}


def _counted(label: "pd.Series[str]", labels: list[str]) -> pd.DataFrame:
    rows = label.value_counts()
    rows = rows.reindex([*labels, *rows.index.difference(labels)], fill_value=0)
    ratio = (rows.max() / rows.clip(lower=1)).to_numpy()
    return pd.DataFrame({"label": rows.index, "rows": rows.to_numpy(), "ratio": ratio})


def _of_meta(samples: pd.DataFrame, validate: Validate) -> "dict[Any, pd.Series[Any]]":
    """Return the columns `meta.NAME` that expectations name and some row has.

    An empty cell is null, and a column that has only numbers becomes numeric.
    """
    if not (named := _named(validate)):
        return {}
    keys = [name.removeprefix(META) for name in named]
    cells = [[row.get(key) for key in keys] for row in map(json.loads, samples["meta"])]
    found = pd.DataFrame(cells, samples.index, named, dtype=object)
    found = found.mask(found == "").dropna(axis=1, how="all")
    return {
        name: pd.to_numeric(of)
        if all(re.fullmatch(NUMBER, str(value)) for value in of.dropna().unique())
        else of
        for name, of in found.items()
    }


def _named(validate: Validate) -> list[str]:
    """Return the columns `meta.NAME` that expectations name."""
    arguments = [value for of in validate.expectations for value in of.arguments.values()]
    flat = [value for of in arguments for value in (of if isinstance(of, list) else [of])]
    return sorted({value for value in flat if isinstance(value, str) and value.startswith(META)})


def run(suites: dict[str, Suite], frames: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Validate the tables against the suites.

    Returns Great Expectations' own result by the name of the suite.
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {  # pyright: ignore[reportAttributeAccessIssue]
        "globally": False,
        "metric_calculations": False,
    }
    source = context.data_sources.add_pandas("refit")
    return {
        name: _validated(source, name, suite.expectations, frames[suite.table])
        for name, suite in suites.items()
    }


def _validated(source: Any, name: str, expectations: list[Expectation], frame: pd.DataFrame) -> Any:
    import great_expectations as gx

    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    stated = gx.ExpectationSuite(
        name=name,
        expectations=expectations,  # pyright: ignore[reportArgumentType]
    )
    form = {"result_format": "COMPLETE", "unexpected_index_column_names": ["label"]}
    result = batch.get_batch({"dataframe": frame}).validate(stated, result_format=form)
    result.meta = {}  # it says when the data was read
    for of in result.results:
        # Great Expectations' own pages cannot show NumPy's numbers
        of.result = json.loads(json.dumps(of.to_json_dict()["result"]))
    return result


def verdicts(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an entry for each expectation: suite, expected, observed, severity and success.

    severity says how severe a failure is. An observed value of null means "cannot tell", which is a
    failure; only an expectation that has nothing to observe (expect_column_to_exist) passes without
    one.
    """
    return [
        _verdict(name, result.to_json_dict())
        for name, found in results.items()
        for result in found.results
    ]


def _verdict(suite: str, result: dict[str, Any]) -> dict[str, Any]:
    config, values = result["expectation_config"], result["result"]
    kwargs = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    if "unexpected_count" in values:  # a map expectation: list what does not fit, by label
        misfits = values.get("unexpected_index_list") or []
        observed: Any = {"misfits": values["unexpected_count"], "first": misfits[:10]}
    else:
        observed = values.get("observed_value")
    success = bool(result["success"]) and (observed is not None or not values)
    return {
        "suite": suite,
        "type": config["type"],
        "kwargs": kwargs,
        "severity": config["severity"],
        "observed": observed,
        "success": success,
    }


def failures(verdicts: list[dict[str, Any]], severe: bool, more: dict[str, str]) -> list[str]:
    """Return one line for each failed expectation that is severe (critical), or that is not.

    more has a further explanation for a column.
    """
    return [
        _say(v, more)
        for v in verdicts
        if not v["success"] and (v["severity"] == "critical") == severe
    ]


def _say(verdict: dict[str, Any], more: dict[str, str]) -> str:
    kwargs, suite = verdict["kwargs"], verdict["suite"]
    column = kwargs.get("column")
    if suite == "distances":  # each measure has its own limit
        return one_line(f"far from what the base model was pretrained on: {more[column]}", 600)
    limits = ", ".join(
        f"{k} {kwargs[k]}"
        for k in ("min_value", "max_value", "threshold")
        if kwargs.get(k) is not None
    )
    named = [
        *(kwargs[k] for k in ("column", "column_A", "column_B") if k in kwargs),
        *kwargs.get("column_list", []),
    ]
    what = f"{suite}.{', '.join(named)}" if named else f"{suite}, number of rows"
    text = f"{what}: {verdict['type']} ({limits}) observed {_seen(verdict['observed'], column)}"
    return one_line(f"{text}: {more[column]}" if column in more else text, 600)


def _seen(observed: Any, column: str | None) -> Any:
    if isinstance(observed, dict) and "misfits" in observed:
        named = ", ".join(
            f"{extract(m['label'])} ({extract(m.get(column))})" for m in observed["first"]
        )
        return f"{observed['misfits']} misfit(s): {named}"
    return observed if observed is not None else "nothing it could tell from"
