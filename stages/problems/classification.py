"""Classification: y is one label out of a known set."""

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import characters
from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line
from stages.contract.metrics import Metric, Ratio, Tally
from stages.contract.params import Classification
from stages.models import pooling

Array = np.ndarray[Any, Any]

ENOUGH = 200  # rows of which it can be said that a model does no better than chance
HEADS = {
    "text": "AutoModelForSequenceClassification",
    "image": "AutoModelForImageClassification",
    "audio": "AutoModelForAudioClassification",
}


def label(y: "pd.Series[str]", settings: Classification) -> pd.DataFrame:
    """Return y as a list of its one label's name, with code and reason where the label is empty or not declared."""
    names = settings.labels
    named = y if names is None else y.map(names)
    found = pd.DataFrame({"y": [[str(n)] for n in named.tolist()], "code": None, "reason": None}, index=y.index, dtype=object)
    found.loc[named.isna(), "code"] = "unknown_label"
    found.loc[named.isna(), "reason"] = [f"label '{extract(value)}' is not in problem.labels" for value in y[named.isna()]]
    found.loc[y.map(characters.is_blank).astype(bool), ["code", "reason"]] = ["no_label", "the label is empty"]
    return found


def strata(y: "pd.Series[Any]") -> "pd.Series[str]":
    """Return each row's label: parts hold labels in like shares."""
    return y.str[0].astype("str")


def labels(y: "pd.Series[Any]") -> list[str]:
    """Return the labels in the order of the model's outputs: sorted."""
    return sorted(strata(y).unique())


def load(folder: Path, modality: str, labels: list[str], new_head: bool) -> tuple[Any, frozenset[str]]:
    """Load the model of a folder, in float32 and from safetensors only, with a head for these labels.

    With new_head the head may be missing or of another shape, and so may the pooler, which many base models come
    without: both are named as new. Any other weight that the folder lacks would be random, and is refused. Where a base model
    says that it was trained on the mean over tokens, or where nothing in it was trained on the first one's state (it has no
    pooler), the new head of a BERT sees the mean.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # a new head is no news
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        held = ", ".join(sorted(extract(p.name) for p in folder.iterdir())[:10]) if folder.is_dir() else "no such folder"
        raise ModelError(
            f"{folder}: needs config.json and *.safetensors (holds: {held}); a pickled model is never opened, "
            "convert it with transformers' save_pretrained where you trust it"
        )
    _require_own_code(folder)
    names, head = dict(enumerate(labels)), HEADS[modality]
    try:
        model, report = getattr(transformers, head).from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type="single_label_classification",  # or transformers would read the outputs of a base for several labels as it read those
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # a configuration of anybody's: transformers and its kin raise errors of any type on it
        raise ModelError(f"{folder}: transformers cannot load it as {head} ({one_line(error, 300)}); check its files") from error
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    new = set[str]()
    if new_head:
        outputs = _outputs(model)
        beside = {name for name in model.state_dict() if model.base_model is not model and not name.startswith(f"{model.base_model_prefix}.")}
        new = outputs | {name for name in lacking if name in beside or "pooler" in name}
        for name in {name.rpartition(".")[0] for name in outputs - lacking}:  # the folder's own, of as many labels: they are not these
            model.get_submodule(name).reset_parameters()
        if pooling.fits(model) and (pooling.is_stated(folder) or any("pooler" in name for name in lacking)):
            pooling.by_mean(model)
        lacking -= new
    if lacking:
        raise ModelError(f"{folder}: {len(lacking)} weights are missing or misshapen (first: {min(lacking)}); they would be random, bring a whole model")
    return model, frozenset(new & {name for name, _ in model.named_parameters()})


def _require_own_code(folder: Path) -> None:
    """Raise ModelError for a configuration that makes transformers fetch code: a kernel of the hub in place of its own attention."""
    try:
        document = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder}/config.json: {one_line(error, 200)}; bring the base model's own") from None
    named = [of for of in _values(document) if of[0].endswith("attn_implementation") and "/" in str(of[1])]
    if named:
        raise ModelError(f"{folder}/config.json: {named[0][0]} names foreign code, {extract(named[0][1])}, which is never run; take that line out")


def _values(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON document, those of the objects in it too."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield str(key), value
            yield from _values(value)


def _outputs(model: Any) -> set[str]:
    """Return the names of the parameters that depend on how many labels there are: the last layer, whatever an architecture calls it."""
    import torch

    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        another = type(model)(config).state_dict()
    return {name for name, value in model.state_dict().items() if value.shape != another[name].shape}


def plain(model: Any) -> Any:
    """Return a model that load gave as it is saved: computed by transformers' own classes alone."""
    return pooling.plain(model)


def targets(y: "pd.Series[Any]", labels: list[str]) -> list[int]:
    """Return the index of each row's label."""
    return pd.Categorical(strata(y), categories=labels).codes.tolist()


def truth(targets: "np.ndarray[Any, Any]", labels: list[str]) -> list[str]:
    """Return the label of each target index."""
    return [labels[i] for i in targets]


def decode(logits: "np.ndarray[Any, Any]", labels: list[str]) -> pd.DataFrame:
    """Return the likeliest label of each row of logits (rows, labels) and its softmax probability."""
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = exponent / exponent.sum(axis=1, keepdims=True)
    best = probability.argmax(axis=1)
    return pd.DataFrame({"predicted": np.array(labels, dtype=object)[best], "confidence": probability.max(axis=1)})


def measure(y: list[str], predicted: list[str], labels: list[str]) -> dict[str, Any]:
    """Return accuracy and precision, recall and F1: macro, micro, weighted and per label (scikit-learn's definitions).

    A label that is never predicted has F1 0. With one label a row, micro F1 is accuracy.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    report: dict[str, Any] = {"accuracy": float(accuracy_score(y, predicted)), "rows": len(y)}
    for average in ("macro", "micro", "weighted"):
        p, r, f, _ = precision_recall_fscore_support(y, predicted, labels=labels, average=average, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        report |= {f"{average}_precision": float(p), f"{average}_recall": float(r), f"{average}_f1": float(f)}
    columns: Any = precision_recall_fscore_support(y, predicted, labels=labels, average=None, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    report["labels"] = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)} for name, p, r, f, n in zip(labels, *columns, strict=True)
    }
    return report


def at_chance(targets: "np.ndarray[Any, Any]", logits: "np.ndarray[Any, Any]") -> bool:
    """Say whether logits (rows, labels) know no more of the targets than chance.

    The labels they predict agree within one standard error of what independence gives (Cohen's kappa of about 0), and they make the
    targets no likelier than the shares of the labels do. Of fewer than ENOUGH rows nobody can say so, and the answer is no.
    """
    from scipy.special import log_softmax

    rows, labels_there = len(targets), logits.shape[1]
    if rows < ENOUGH:
        return False
    predicted = logits.argmax(axis=1)
    true, said = (np.bincount(of, minlength=labels_there) / rows for of in (targets, predicted))
    chance = float(true @ said)
    likely = float(log_softmax(logits.astype(float), axis=1)[np.arange(rows), targets].mean())
    of_shares = float((true[true > 0] * np.log(true[true > 0])).sum())
    return bool((predicted == targets).mean() <= chance + np.sqrt(chance * (1 - chance) / rows) and likely <= of_shares)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def counts_of_f1(y: Array, predicted: Array, labels: int) -> Array:
    """Return what pairs of label and prediction (kinds,), -1 for any other label, add to the counts of each label (3, kinds, labels).

    They say whether it is true and predicted, how often it is either, and whether it is true.
    """
    is_y, is_p = ((side[:, None] == np.arange(labels)).astype(float) for side in (y, predicted))
    return np.stack([is_y * is_p, is_y + is_p, is_y])


def _tally_f1(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str]) -> Tally:
    code = {name: i for i, name in enumerate(labels)}
    known, said = (side.map(code).fillna(-1).to_numpy(dtype=int) + 1 for side in (y, predicted))
    pairs, kinds = np.unique(known * (len(labels) + 1) + said, return_inverse=True)  # a number a pair: many times faster than pairs
    known, said = np.divmod(pairs, len(labels) + 1)
    return Tally(labels, counts_of_f1(known - 1, said - 1, len(labels)), kinds, (y == predicted).to_numpy())


def _tally_right(y: "pd.Series[str]", predicted: "pd.Series[str]", _: list[str]) -> Tally:
    """Return whether a row is right, and that it is one."""
    right = (y == predicted).to_numpy()
    return Tally(["all"], np.array([[[0.0], [1.0]], [[1.0], [1.0]]]), right.astype(int), right)


METRICS: dict[str, Metric] = {
    "macro_f1": Metric(
        "macro-F1",
        "F1",
        tally=_tally_f1,
        value=Ratio(lambda counts: 2 * counts[0], lambda counts: counts[1]),
        rows=lambda sums: sums[2],
        right=(1.0, 2.0, 1.0),
        wrong=(0.0, 1.0, 1.0),
        share=lambda sums: (sums[0], sums[1] - sums[0]),  # of the rows that bear or got a label, those that do both
        of_share=lambda share: 2 * share / (1 + share),
    ),
    "accuracy": Metric(
        "accuracy",
        "accuracy",
        tally=_tally_right,
        value=Ratio(lambda counts: counts[0], lambda counts: counts[1]),
        rows=lambda sums: sums[1],
        right=(1.0, 1.0),
        wrong=(0.0, 1.0),
        share=lambda sums: (sums[0], sums[1]),
    ),
}
HEADLINES = {name: of.title for name, of in METRICS.items()} | {"weighted_f1": "weighted F1"}
OF_SLICES = "accuracy"
