"""Measure the checks of data: near duplicates, wrong labels, leaks, domain distances, validate.

python -m benchmarks.checks near [--rows N] [--templated SHARE]
python -m benchmarks.checks validate [--rows N] [--templated SHARE]
python -m benchmarks.checks labels TASK [--share SHARE]      (needs dvc repro split@TASK)
python -m benchmarks.checks leak FOLDER    (a folder with train.csv and test.csv: text, category)
python -m benchmarks.checks alarms | shifts | losses --data FOLDER [--kind texts | pictures]
                                           (needs dvc repro fetch@minilm fetch@mobilenet)
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import domain, elsewhere
from benchmarks.leak import leaked
from stages.checks import label_issues
from stages.contract import groups, manifest, plugins, settings
from stages.modalities.text import near as nearness
from stages.params.evaluate import LabelIssues
from stages.params.text import TextModality

text = plugins.modality("text")

ANY_LENGTH = TextModality(
    "text", characters=(0, 10**9), median_characters=(0, 10**9), max_tokens=512
)
WORDS, LETTERS = 20_000, "etaoinshrdlcumwfgypbvk"
FIRST = 50  # entries of the list, which a person reads
BINS = {".7 to .75": (0.7, 0.75), ".75 to .8": (0.75, 0.8), ".8 and more": (0.8, 1.01)}


def written(number: int, drawn: np.random.Generator) -> list[str]:
    """Return texts of 8 to 19 invented words, whose frequencies follow Zipf's law."""
    lengths = drawn.integers(2, 12, WORDS)
    letters = "".join(drawn.choice(list(LETTERS), lengths.sum()))
    ends = np.cumsum(lengths)
    words = np.array([letters[a:b] for a, b in zip(ends - lengths, ends, strict=True)])
    share = 1 / np.arange(1, WORDS + 1)
    sizes = drawn.integers(8, 20, number)
    said = words[drawn.choice(WORDS, sizes.sum(), p=share / share.sum())]
    ends = np.cumsum(sizes)
    return [" ".join(said[a:b]) for a, b in zip(ends - sizes, ends, strict=True)]


def planted(
    number: int, drawn: np.random.Generator, templated: float = 0.0
) -> tuple[list[str], int]:
    """Return texts, and a number n: text n + i is a copy of text i, for each i below n.

    A copy has one to three other words.
    """
    texts = written(number - int(templated * number), drawn)
    copied = len(texts) // 10
    others = iter(" ".join(written(copied, drawn)).split())
    copies = []
    for original in texts[:copied]:
        words = original.split()
        for place in drawn.choice(len(words), drawn.integers(1, 4), replace=False):
            words[place] = next(others)
        copies.append(" ".join(words))
    forms = [
        (
            f"your code is {code:06d}, it can be used until {code % 24:02d}:00 of the day after "
            "tomorrow"
        )
        for code in range(number - len(texts))
    ]
    return [*texts[:copied], *copies, *texts[copied : len(texts) - copied], *forms], copied


def found(texts: list[str], copied: int) -> dict[str, Any]:
    """Return which copies joined their original's group, by their Jaccard index, and the cost."""
    normal = text.reading.normalise(pd.Series(texts))
    began, used = time.perf_counter(), time.process_time()
    code, distinct = pd.factorize(normal, sort=True)
    pairs = nearness.pairs(distinct.tolist())
    group = groups.linked(len(distinct), pairs)[code]
    cost = {
        "seconds": round(time.perf_counter() - began, 1),
        "seconds_of_cpu": round(time.process_time() - used, 1),
    }
    index = np.array(
        [jaccard(a, b) for a, b in zip(normal[:copied], normal[copied : 2 * copied], strict=True)]
    )
    together = group[:copied] == group[copied : 2 * copied]
    unconfirmed = sum(jaccard(distinct[a], distinct[b]) < nearness.LIMIT for a, b in pairs.tolist())
    return {
        "texts": len(texts), **cost,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "recall": {name: share(together, (index >= low) & (index < high))
                   for name, (low, high) in BINS.items()},
        "below": {"pairs": int((index < nearness.LIMIT).sum()),
                  "merged": int(together[index < nearness.LIMIT].sum())},
        "unconfirmed": unconfirmed, "largest_group": int(np.bincount(group).max()),
    }  # fmt: skip


def share(together: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the number of pairs, and the share of them that is together."""
    return {
        "pairs": int(among.sum()),
        "share": round(float(together[among].mean()), 4) if among.any() else None,
    }


def jaccard(a: str, b: str) -> float:
    """Return the share of all 4-grams of two texts that both have."""
    left, right = (
        {of[i : i + nearness.GRAM] for i in range(len(of) - nearness.GRAM + 1)} for of in (a, b)
    )
    return len(left & right) / max(len(left | right), 1)


def near(options: argparse.Namespace) -> None:
    """Print the recall of planted copies, the wrongly merged pairs, and the seconds and memory."""
    print(
        json.dumps(
            found(*planted(options.rows, np.random.default_rng(0), options.templated)), indent=2
        )
    )


def altered(y: "pd.Series[str]", share: float, drawn: np.random.Generator) -> "pd.Series[str]":
    """Return labels, a share of which was changed to another label, drawn at random."""
    names, wrong = (
        np.array(sorted(y.unique()), dtype=object),
        drawn.choice(len(y), round(share * len(y)), replace=False),
    )
    codes = np.searchsorted(names, y)
    codes[wrong] = (codes[wrong] + drawn.integers(1, len(names), len(wrong))) % len(names)
    return pd.Series(names[codes], index=y.index).astype("str")


def doubted(
    samples: pd.DataFrame, y: "pd.Series[str]", stated: LabelIssues, share: float
) -> dict[str, Any]:
    """Return how many altered labels of train rows are listed, and how many listed are altered."""
    given = altered(y, share, np.random.default_rng(0))
    began = time.perf_counter()
    listed, looked = label_issues.find(
        samples, pd.Series("train", index=samples.index), given, stated
    )
    wrong = listed["id"].isin(samples["id"][given != y])
    return {
        "rows": len(samples), "altered": int((given != y).sum()),
        "seconds": round(time.perf_counter() - began, 1), "accuracy": looked["accuracy"],
        "listed": len(listed), "precision": round(float(wrong.mean()), 3),
        "recall": round(wrong.sum() / (given != y).sum(), 3),
        f"precision_of_the_first_{FIRST}": round(float(wrong[:FIRST].mean()), 2),
    }  # fmt: skip


def labels(options: argparse.Namespace) -> None:
    """Alter labels of a task's train rows at random, and print which of them are found."""
    task = settings.load().tasks[options.task]
    train = manifest.read(Path("data/split", options.task, "train.parquet"))
    train = train[train["id"] == train["source_id"]].reset_index(drop=True)
    print(json.dumps(doubted(train, train["stratum"], task.label_issues, options.share), indent=2))


def validated(rows: int, templated: float) -> dict[str, Any]:
    """Return the time and memory that the stage validate takes for so many texts of two labels."""
    texts, _ = planted(rows, np.random.default_rng(0), templated)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        table = (
            pd.DataFrame({"text": texts, "label": np.array(["a", "b"])[np.arange(rows) % 2]})
            .to_csv(index=False)
            .encode()
        )
        loose = {
            "max_group_fraction": 1.0,
            "max_bad_fraction": 0.2,
            "label_distribution": {"name": "uniform", "max_kl": 0.1},
        }
        elsewhere.texts(folder, table, {"x": "text", "y": "label"}, validate=loose)
        began = time.perf_counter()
        elsewhere.run(folder, "stages.validate", "texts")
        seconds = time.perf_counter() - began
        timing = elsewhere.read(folder, "validate", "texts", "timing.json")
    return {
        "rows": rows,
        "templated": templated,
        "seconds": round(seconds, 1),
        "peak_mib": timing["peak_memory_mib"],
    }


def validate(options: argparse.Namespace) -> None:
    """Print the seconds and the memory of the stage validate, near duplicates included."""
    print(json.dumps(validated(options.rows, options.templated), indent=2))


def leak(options: argparse.Namespace) -> None:
    """Print macro-F1 on held-out rows, beside untouched rows.

    Rows are held out after augmentation, naively and by split.
    """
    columns = {"x": "text", "y": "category"}
    print(
        json.dumps(
            leaked(
                options.folder / "train.csv",
                options.folder / "test.csv",
                columns,
                options.copies,
                options.words,
            ),
            indent=2,
        )
    )


def alarms(options: argparse.Namespace) -> None:
    """Print how often a set of the very same domain is called far."""
    x, label = domain.pool(options.data, options.kind, options.pool)
    taken = domain.taken(
        x, options.base or domain.BASES[options.kind], domain.SETTINGS[options.kind]
    )
    for size in (100, 1_000, 10_000):
        print(
            json.dumps(
                {
                    "kind": options.kind,
                    "rows": size,
                    "draws": options.draws,
                    "far": domain.alarms(taken, label, size, options.draws),
                }
            ),
            flush=True,
        )


def shifts(options: argparse.Namespace) -> None:
    """Print how often planted shifts are found in 1,000 rows."""
    base, settings = options.base or domain.BASES[options.kind], domain.SETTINGS[options.kind]
    _, label = domain.pool(options.data, options.kind, options.pool)
    print(json.dumps({"label doubled": domain.doubled(label, 1000, options.draws)}), flush=True)
    with tempfile.TemporaryDirectory() as made:
        for name, (reference, other) in domain.swaps(
            options.data, options.kind, options.pool, Path(made)
        ).items():
            held = [domain.taken(x, base, settings)[0] for x in (reference, other)]
            print(
                json.dumps({name: domain.found(held[0], held[1], 1000, options.draws)}), flush=True
            )


def losses(options: argparse.Namespace) -> None:
    """Print distance and loss of macro-F1 of shifted sets, and how their ranks agree."""
    base, settings = options.base or domain.BASES[options.kind], domain.SETTINGS[options.kind]
    with tempfile.TemporaryDirectory() as made:
        for name, sets in domain.shifted(
            options.data, options.kind, options.rows, Path(made)
        ).items():
            taken = {
                key: (*domain.taken(of["x"].tolist(), base, settings), of["y"].tolist())
                for key, of in sets.items()
            }
            train = taken.pop("train")
            table = domain.losses(
                (train[1], train[2]),
                taken,
                domain.part(train[0], np.arange(min(domain.SAMPLE, len(train[2])))),
            )
            print(table.round(4).to_string(index=False))
            print(json.dumps({name: domain.ranks(table)}), flush=True)


def main() -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("near", help=near.__doc__)
    command.add_argument("--rows", type=int, default=1_000_000)
    command.add_argument(
        "--templated",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the texts are one form with another code",
    )
    command.set_defaults(run=near)
    command = commands.add_parser("labels", help=labels.__doc__)
    command.add_argument("task")
    command.add_argument("--share", type=float, default=0.05, help="of the labels is altered")
    command.set_defaults(run=labels)
    command = commands.add_parser("validate", help=validate.__doc__)
    command.add_argument("--rows", type=int, default=1_000_000)
    command.add_argument(
        "--templated",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the texts are one form with another code",
    )
    command.set_defaults(run=validate)
    command = commands.add_parser("leak", help=leak.__doc__)
    command.add_argument("folder", type=Path)
    command.add_argument("--copies", type=int, default=3, help="of each row")
    command.add_argument(
        "--words", type=float, default=0.2, metavar="SHARE", help="of the words gets typing errors"
    )
    command.set_defaults(run=leak)
    for run in (alarms, shifts, losses):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.add_argument(
            "--data", type=Path, required=True, help="the folder of the published sets"
        )
        command.add_argument("--kind", choices=("texts", "pictures"), default="texts")
        command.add_argument("--base", type=Path, help="the base model's folder")
        command.add_argument("--pool", type=int, default=4000, help="rows that are drawn from")
        command.add_argument("--draws", type=int, default=400)
        command.add_argument("--rows", type=int, default=800, help="of each shifted set")
        command.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
