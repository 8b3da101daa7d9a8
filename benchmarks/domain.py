"""Measure the distances of domains: false alarms, what they find, and how they rank with lost F1.

The sets are read as they were published, from one folder: banking77/train.csv,
multi30k/train.{en,de}.gz, sst2/train.tsv, financial_phrasebank/all-data.csv, zh_reviews,
cifar10_jpg/cifar10_20k.zip.
"""

import gzip
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.contract import plugins
from stages.domain import distances, profiles
from stages.domain.profiles import Profile
from stages.modalities.image import pictures
from stages.models import activations
from stages.models.activations import Seen
from stages.params.augment import Augment
from stages.params.compute import Compute
from stages.params.image import ImageModality
from stages.params.text import Keyboard, Ocr, RandomCharacter, RandomWord, TextModality

text = plugins.modality("text")

COMPUTE = Compute(threads=2, dtype="float32", memory_format="contiguous_format", batch_size=64)
TEXTS = TextModality("text", characters=(0, 10**6), median_characters=(0, 10**6), max_tokens=64)
PICTURES = ImageModality(
    "image",
    sides=(1, 10**5),
    max_pixels=10**8,
    median_side=(1, 10**5),
    shorter_side=96,
    crop=96,
    views=("as_is",),
)
SETTINGS: dict[str, Any] = {"texts": TEXTS, "pictures": PICTURES}
BASES = {"texts": Path("data/raw/minilm"), "pictures": Path("data/raw/mobilenet")}
RATE = 0.03
SAMPLE = 1000
Rgb = NDArray[np.uint8]


def taken(x: list[str], base: Path, settings: Any) -> tuple[Profile, Seen]:
    """Return what the checks keep of rows, and all that the base model computed from them."""
    rows = pd.DataFrame({"x": x, "group": 0})
    of_x = plugins.modality(settings.name)
    held, seen = profiles.take(
        {},
        rows,
        of_x.reading.look(rows["x"], settings),
        (of_x, plugins.problem("classification")),
        base,
        (settings, COMPUTE),
        True,
    )
    assert seen is not None
    return held, seen


def part(held: Profile, rows: NDArray[np.intp]) -> Profile:
    """Return the profile of some of the rows."""
    embeddings = profiles.encoded(profiles.embeddings(held)[rows])
    return replace(
        held,
        group=[0] * len(rows),
        traits={name: [of[i] for i in rows] for name, of in held.traits.items()},
        embeddings=embeddings,
    )


def seen_part(seen: Seen, rows: NDArray[np.intp]) -> Seen:
    """Return what the base model computed from some of the rows."""
    return replace(
        seen, embeddings=seen.embeddings[rows], means=seen.means[rows], squares=seen.squares[rows]
    )


def alarms(pool: tuple[Profile, Seen], label: list[str], size: int, draws: int) -> dict[str, float]:
    """Return the share of draws in which a measure calls another draw of the same pool far.

    The shares are those of labels, of rows, of activations, and of any of them. Both the reference
    (SAMPLE rows, all of the pool's labels) and the new set are drawn anew each time, and have no
    row in common.
    """
    drawn, (held, seen) = np.random.default_rng(size), pool
    shares = pd.Series(label).value_counts()
    wrong = dict.fromkeys(("labels", "rows", "activations", "any"), 0)
    for trial in range(draws):
        rows = drawn.permutation(len(held.group))
        reference, new = rows[:SAMPLE], rows[SAMPLE : SAMPLE + min(size, SAMPLE)]
        counts = dict(
            zip(shares.index, drawn.multinomial(size, shares / shares.sum()).tolist(), strict=True)
        )
        found = {
            "labels": distances.of_labels(counts, shares.to_dict(), None, RATE, trial).far,
            "rows": any(
                of.far
                for of in distances.of_rows(part(held, reference), part(held, new), RATE, trial)
            ),
            "activations": bool(seen.layers)
            and _activations(seen_part(seen, reference), seen_part(seen, new), trial),
        }
        for name, far in {**found, "any": any(found.values())}.items():
            wrong[name] += far
    return {name: n / draws for name, n in wrong.items()}


def _activations(reference: Seen, new: Seen, seed: int) -> bool:
    """Return whether new rows are farther from BatchNorm's statistics than reference draws are."""
    of_reference = activations.resampled(
        reference, (len(new.embeddings),), np.random.default_rng(seed)
    )
    return distances.of_activations(of_reference, new, RATE).far


# ---- what is found -------------------------------------------------------------------------------


def found(reference: Profile, shifted: Profile, size: int, draws: int) -> dict[str, float]:
    """Return the share of draws that are called far, for each measure of rows and for any of them.

    Each draw has `size` shifted rows.
    """
    drawn = np.random.default_rng(0)
    wrong = dict[str, int]()
    for trial in range(draws):
        rows, others = (drawn.permutation(len(of.group)) for of in (reference, shifted))
        measures = distances.of_rows(
            part(reference, rows[:SAMPLE]), part(shifted, others[:size]), RATE, trial
        )
        for name, far in {
            **{of.measure: of.far for of in measures},
            "any": any(of.far for of in measures),
        }.items():
            wrong[name] = wrong.get(name, 0) + far
    return {name: n / draws for name, n in wrong.items()}


def doubled(label: list[str], size: int, draws: int) -> dict[str, float]:
    """Return, for each label, the share of draws in which its doubled frequency is found.

    Each draw has `size` rows.
    """
    shares, drawn = pd.Series(label).value_counts(normalize=True), np.random.default_rng(0)
    told = dict[str, float]()
    for name in shares.index:
        shifted = shares.copy()
        shifted[name] *= 2
        counts = drawn.multinomial(size, shifted / shifted.sum(), draws)
        far = [
            distances.of_labels(
                dict(zip(shares.index, of.tolist(), strict=True)), shares.to_dict(), None, RATE, i
            ).far
            for i, of in enumerate(counts)
        ]
        told[str(name)] = float(np.mean(far))
    return told


# ---- distance and loss of F1 ---------------------------------------------------------------------


def losses(
    train: tuple[Seen, list[str]],
    test: dict[str, tuple[Profile, Seen, list[str]]],
    reference: Profile,
) -> pd.DataFrame:
    """Return a row for each test set, the unshifted one first.

    A row has the macro-F1 of a linear model on the base's embeddings, its loss, and each distance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(
        train[0].embeddings, train[1]
    )
    rows = []
    for name, (held, seen, y) in test.items():
        far = {of.measure: of.distance for of in distances.of_rows(reference, held, RATE, 0)}
        if seen.layers:
            far["activations"] = float(
                activations.divergence(seen, np.full((1, len(y)), 1 / len(y), np.float32)).mean()
            )
        rows.append(
            {
                "set": name,
                "macro_f1": float(f1_score(y, model.predict(seen.embeddings), average="macro")),
                **far,
            }
        )
    table = pd.DataFrame(rows)
    table.insert(2, "loss", table["macro_f1"].iloc[0] - table["macro_f1"])
    return table


def ranks(table: pd.DataFrame) -> dict[str, float]:
    """Return each distance's Spearman correlation with the loss of macro-F1, over shifted sets."""
    shifted = table.iloc[1:]
    return {
        str(name): float(shifted[name].corr(shifted["loss"], method="spearman"))
        for name in shifted.columns[3:]
    }


def altered(texts: list[str], transform: Any, seed: int) -> list[str]:
    """Return the texts, each altered as augment alters it."""
    augment = Augment(seed=seed, share=1.0, copies=1, on_the_fly=False, transforms=(transform,))
    samples = pd.DataFrame({"id": [str(i) for i in range(len(texts))], "x": texts, "content": ""})
    copies = text.altering.alter(samples, augment, TEXTS, Path(), "").set_index("source_id")["x"]
    return [copies.get(str(i), of) for i, of in enumerate(texts)]


SHIFTED_TEXTS = {
    "typing errors in 10 % of the words": Keyboard("keyboard", words=0.1, characters=0.3),
    "typing errors in 30 %": Keyboard("keyboard", words=0.3, characters=0.3),
    "typing errors in 60 %": Keyboard("keyboard", words=0.6, characters=0.4),
    "typing errors in all": Keyboard("keyboard", words=1.0, characters=0.5),
    "scanning errors in half": Ocr("ocr", words=0.5, characters=0.5),
    "letters left out of half": RandomCharacter(
        "random_character", "delete", words=0.5, characters=0.4
    ),
    "half of the words left out": RandomWord("random_word", "delete", words=0.5),
}


def _noise(rgb: Rgb, amount: float) -> Rgb:
    drawn = np.random.default_rng(int(rgb.sum()))
    return (rgb + drawn.normal(0, amount, rgb.shape)).clip(0, 255).astype(np.uint8)


def _small(rgb: Rgb, side: int) -> Rgb:
    return np.asarray(
        cv2.resize(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA), rgb.shape[1::-1]),
        np.uint8,
    )


def _grey(rgb: Rgb) -> Rgb:
    return np.repeat(rgb.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)


def _contrast(rgb: Rgb, factor: float) -> Rgb:
    return (128 + (rgb.astype(float) - 128) * factor).astype(np.uint8)


SHIFTED_PICTURES: dict[str, Callable[[Rgb], Rgb]] = {
    "grey": _grey,
    "turned by a quarter": lambda rgb: np.ascontiguousarray(np.rot90(rgb)),
    "a fifth of the contrast": partial(_contrast, factor=0.2),
    "16 pixels wide": partial(_small, side=16),
    "8 pixels wide": partial(_small, side=8),
    "noise, deviation 20": partial(_noise, amount=20),
    "noise, deviation 60": partial(_noise, amount=60),
    "negative": lambda rgb: (255 - rgb).astype(np.uint8),
}


def shifted_pictures(files: list[Path], shift: Callable[[Rgb], Rgb], into: Path) -> list[str]:
    """Write pictures as PNG files, each shifted, and return their paths."""
    into.mkdir(parents=True)
    written = [into / f"{i}.png" for i in range(len(files))]
    for file, path in zip(files, written, strict=True):
        pictures.write(shift(pictures.read(file, pictures.ANY).rgb), path)
    return [str(path.absolute()) for path in written]


# ---- the sets ------------------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    """Return the lines of a compressed text."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def table(path: Path, columns: list[Any], **how: Any) -> pd.DataFrame:
    """Return x and y of a table."""
    return (
        pd.read_csv(path, encoding_errors="replace", **how)[columns]
        .set_axis(["x", "y"], axis=1)
        .dropna()
        .astype(str)
    )


def pool(data: Path, kind: str, number: int) -> tuple[list[str], list[str]]:
    """Return rows of one domain, and the labels of a published set.

    The rows are questions of a bank's customers, or small pictures; the labels are those of films,
    or of the same pictures.
    """
    if kind == "texts":
        films = table(data / "sst2/train.tsv", [0, 1], sep="\t", header=None, quoting=3)
        return table(data / "banking77/train.csv", ["text", "category"])["x"].sample(
            number, random_state=0
        ).tolist(), films["y"].tolist()
    files = extracted(data / "cifar10_jpg/cifar10_20k.zip", "test/", number)
    return [str(file) for file in files], [file.parent.name for file in files]


def extracted(packed: Path, below: str, number: int) -> list[Path]:
    """Unpack some pictures, drawn below a folder of a ZIP, into the folder for temporary files."""
    into = Path(tempfile.gettempdir(), "refit_benchmarks", packed.stem)
    with zipfile.ZipFile(packed) as held:
        names = pd.Series(
            sorted(
                name for name in held.namelist() if name.startswith(below) and name.endswith(".jpg")
            )
        ).sample(number, random_state=0)
        for name in names:
            held.extract(name, into)
    return [into / name for name in names]


def swaps(data: Path, kind: str, number: int, into: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return pairs of a reference and what it is swapped for, by name."""
    if kind == "texts":
        bank, _ = pool(data, kind, number // 2)
        films = (
            table(data / "sst2/train.tsv", [0, 1], sep="\t", header=None, quoting=3)["x"]
            .sample(number // 2, random_state=0)
            .tolist()
        )
        english, german = (lines(data / f"multi30k/train.{of}.gz") for of in ("en", "de"))
        return {
            "films for a bank's customers": (bank, films),
            "German for English": (english[: number // 2], german[-number // 2 :]),
        }
    files = extracted(data / "cifar10_jpg/cifar10_20k.zip", "test/", number)
    grey = shifted_pictures(files[number // 2 :], SHIFTED_PICTURES["grey"], into / "grey")
    return {"grey for colour": ([str(file) for file in files[: number // 2]], grey)}


def shifted(data: Path, kind: str, number: int, into: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Return, by the name of a problem, train, the unshifted set, and the shifted sets."""
    if kind == "texts":
        return {"intents": intents(data, number), "sentiments": sentiments(data, number)}
    return {"animals": animals(data, number, into)}


def sentiments(data: Path, number: int) -> dict[str, pd.DataFrame]:
    """Return sets of x and y, positive or negative.

    The film reviews of one set are to be learned from, those of another to be judged on; the other
    sets are shifted.
    """
    words = {"0": "negative", "1": "positive"}
    films = [
        table(data / f"sst2/{name}.tsv", [0, 1], sep="\t", header=None, quoting=3)
        for name in ("train", "test")
    ]
    hotels = table(data / "zh_reviews/ChnSentiCorp_htl_all.csv", ["review", "label"])
    train, test, hotels = (
        of.assign(y=of["y"].map(words)).sample(frac=1, random_state=0) for of in (*films, hotels)
    )
    news = table(data / "financial_phrasebank/all-data.csv", ["news", "label"])
    test = test.head(number)
    sets = {"train": train.head(2 * number), "unshifted": test}
    sets |= {
        name: test.assign(x=altered(test["x"].tolist(), of, 0))
        for name, of in SHIFTED_TEXTS.items()
    }
    return sets | {
        "financial news": news[news["y"] != "neutral"].sample(number, random_state=0),
        "Chinese hotel reviews": hotels.head(number),
    }


def intents(data: Path, number: int) -> dict[str, pd.DataFrame]:
    """Return sets of x and y, what a customer of a bank wants (77 labels).

    One set is to be learned from, one to be judged on; the other sets are shifted.
    """
    train, test = (
        table(data / f"banking77/{name}.csv", ["text", "category"]).sample(frac=1, random_state=0)
        for name in ("train", "test")
    )
    test = test.head(number)
    sets = {"train": train.head(8 * number), "unshifted": test}
    return sets | {
        name: test.assign(x=altered(test["x"].tolist(), of, 0))
        for name, of in SHIFTED_TEXTS.items()
    }


def animals(data: Path, number: int, into: Path) -> dict[str, pd.DataFrame]:
    """Return sets of x and y, pictures of 32 pixels of a cat, dog or bird.

    One set is to be learned from, one to be judged on; the other sets are shifted.
    """
    with zipfile.ZipFile(data / "cifar10_jpg/cifar10_catdogbird.zip") as held:
        names = pd.Series(sorted(name for name in held.namelist() if name.endswith(".jpg"))).sample(
            frac=1, random_state=0
        )
        chosen = {
            part: names[names.str.startswith(f"{part}/")].head(size).tolist()
            for part, size in (("train", 2 * number), ("test", number))
        }
        for name in [*chosen["train"], *chosen["test"]]:
            held.extract(name, into)
    files = {
        part: pd.DataFrame(
            {
                "x": [str((into / name).absolute()) for name in of],
                "y": [name.split("/")[1] for name in of],
            }
        )
        for part, of in chosen.items()
    }
    test = files["test"]
    shifted = {
        name: shifted_pictures([Path(x) for x in test["x"]], of, into / f"shifted{i}")
        for i, (name, of) in enumerate(SHIFTED_PICTURES.items())
    }
    return {"train": files["train"], "unshifted": test} | {
        name: test.assign(x=x) for name, x in shifted.items()
    }
