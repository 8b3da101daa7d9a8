"""States what a data set must satisfy as Great Expectations suites. The only door to great_expectations."""

from typing import Any

import pandas as pd

from stages.contract.escape import extract, one_line
from stages.contract.params import Declared, Validate

Expectation = dict[str, Any]  # a Great Expectations type, and its kwargs


def integrity(validate: Validate, labels: list[str], of_features: list[Expectation]) -> dict[str, list[Expectation]]:
    """Return the expectations on samples (a row a sample) and on labels (a row a label).

    Map expectations pass on an empty table and on nulls, so row count and not-null always stand beside them.
    """
    reference = validate.label_distribution
    weights = reference.weights if isinstance(reference, Declared) else dict.fromkeys(labels, 1.0)
    total = sum(weights.values())
    partition = {"values": list(weights), "weights": [w / total for w in weights.values()]}
    return {
        "samples": [
            {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": validate.min_rows}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "label"}},
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": labels}},
            *of_features,
            {
                "type": "expect_column_kl_divergence_to_be_less_than",
                "kwargs": {"column": "label", "partition_object": partition, "threshold": reference.max_kl},
            },
        ],
        "labels": [
            {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 2}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "rows", "min_value": validate.min_rows_per_label}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "ratio", "max_value": validate.max_label_ratio}},
        ],
    }


def tables(samples: pd.DataFrame, label: "pd.Series[str]", features: pd.DataFrame, labels: list[str]) -> dict[str, pd.DataFrame]:
    """Return the two tables that the suites look at; ratio is the largest label's rows over this label's (0 counts as 1)."""
    rows = label.value_counts().reindex(labels, fill_value=0)
    return {
        "samples": features.assign(x=samples["x"], label=label),
        "labels": pd.DataFrame({"label": rows.index, "rows": rows.to_numpy(), "ratio": (rows.max() / rows.clip(lower=1)).to_numpy()}),
    }


def run(suites: dict[str, list[Expectation]], frames: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Validate each frame against its suite; return one entry an expectation: what was expected, observed, success.

    An observed value of null means "cannot tell", which is a failure.
    """
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # pyright: ignore[reportAttributeAccessIssue]
    source = context.data_sources.add_pandas("refit")
    verdicts: list[dict[str, Any]] = []
    for name, expectations in suites.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        suite = gx.ExpectationSuite(name=name, expectations=expectations)
        form = {"result_format": "COMPLETE", "unexpected_index_column_names": ["label"]}
        found = batch.get_batch({"dataframe": frames[name]}).validate(suite, result_format=form)  # pyright: ignore[reportArgumentType]
        verdicts += [_verdict(name, result.to_json_dict()) for result in found.results]
    return verdicts


def _verdict(table: str, result: dict[str, Any]) -> dict[str, Any]:
    config, values = result["expectation_config"], result["result"]
    kwargs = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    if "unexpected_count" in values:  # a map expectation: what does not fit, by label
        misfits = values.get("unexpected_index_list") or []
        observed: Any = {"misfits": values["unexpected_count"], "first": misfits[:10]}
    else:
        observed = values.get("observed_value")
    success = bool(result["success"]) and observed is not None
    return {"table": table, "type": config["type"], "kwargs": kwargs, "observed": observed, "success": success}


def failures(verdicts: list[dict[str, Any]]) -> list[str]:
    """Return one line for each expectation that failed."""
    return [_say(v) for v in verdicts if not v["success"]]


def _say(verdict: dict[str, Any]) -> str:
    kwargs, observed = verdict["kwargs"], verdict["observed"]
    limits = ", ".join(f"{k} {kwargs[k]}" for k in ("min_value", "max_value", "threshold") if kwargs.get(k) is not None)
    what = f"{verdict['table']}.{kwargs['column']}" if "column" in kwargs else f"rows of {verdict['table']}"
    if isinstance(observed, dict) and "misfits" in observed:
        named = ", ".join(f"{extract(m['label'])} ({extract(m.get(kwargs['column']))})" for m in observed["first"])
        observed = f"{observed['misfits']} misfit(s): {named}"
    return one_line(f"{what}: {verdict['type']} ({limits}) observed {observed if observed is not None else 'nothing it could tell from'}", 600)
