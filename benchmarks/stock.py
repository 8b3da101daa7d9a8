"""The scripts that many would write without Refit: transformers' Trainer, a probe, a scoring loop.

The Trainer has its defaults.

python -m benchmarks.stock texts | pictures | probe SPEC.json

SPEC.json states a Spec, below; the script writes the predictions of the test rows.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


@dataclass
class Spec:
    """What is trained, and on what; train and test are Parquet files with the columns x and y."""

    base: str
    train: str
    test: str
    out: str
    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 1e-4
    max_tokens: int = 64
    side: int = 224
    transforms: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def texts(of: Spec) -> list[str]:
    """Fine-tune on texts and return the predicted labels of the test rows."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
    )  # fmt: skip

    train, test = _rows(of.train), _rows(of.test)
    labels = sorted(train["y"].unique())
    tokenizer = AutoTokenizer.from_pretrained(of.base)

    def encode(rows: pd.DataFrame) -> list[dict[str, Any]]:
        encoded = tokenizer(rows["x"].tolist(), truncation=True, max_length=of.max_tokens)
        codes = [labels.index(y) if y in labels else 0 for y in rows["y"]]
        return [
            {name: of[i] for name, of in encoded.items()} | {"labels": code}
            for i, code in enumerate(codes)
        ]

    model = AutoModelForSequenceClassification.from_pretrained(of.base, num_labels=len(labels))
    trainer = Trainer(
        model,
        _arguments(of),
        train_dataset=encode(train),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    return [labels[i] for i in trainer.predict(encode(test)).predictions.argmax(axis=1)]


def pictures(of: Spec) -> list[str]:
    """Fine-tune on pictures and return the predicted labels of the test rows."""
    import albumentations as alb
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer

    train, test = _rows(of.train), _rows(of.test)
    labels = sorted(train["y"].unique())
    processor = AutoImageProcessor.from_pretrained(of.base)
    normalise = [alb.SmallestMaxSize(of.side), alb.CenterCrop(of.side, of.side)]
    normalise += [alb.Normalize(processor.image_mean, processor.image_std)]
    tuples = [
        {k: tuple(v) if isinstance(v, list) else v for k, v in one["arguments"].items()}
        for one in of.transforms
    ]
    altering = [
        getattr(alb, one["transform"])(**given)
        for one, given in zip(of.transforms, tuples, strict=True)
    ]

    class Rows:
        def __init__(self, rows: pd.DataFrame, transform: Any) -> None:
            self.rows, self.transform = list(zip(rows["x"], rows["y"], strict=True)), transform

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, i: int) -> dict[str, Any]:
            x, y = self.rows[i]
            rgb = np.asarray(Image.open(Path("data", x)).convert("RGB"))
            return {
                "pixel_values": self.transform(image=rgb)["image"].transpose(2, 0, 1),
                "labels": labels.index(y) if y in labels else 0,
            }

    model = AutoModelForImageClassification.from_pretrained(
        of.base, num_labels=len(labels), ignore_mismatched_sizes=True
    )
    trainer = Trainer(
        model, _arguments(of), train_dataset=Rows(train, alb.Compose([*altering, *normalise]))
    )
    trainer.train()
    found = trainer.predict(Rows(test, alb.Compose(normalise))).predictions
    return [labels[i] for i in found.argmax(axis=1)]


def _arguments(of: Spec) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=f"{of.out}-trainer",
        num_train_epochs=of.epochs,
        per_device_train_batch_size=of.batch_size,
        learning_rate=of.learning_rate,
        report_to=[],
    )


def probe(of: Spec) -> list[str]:
    """Fit scikit-learn's logistic regression to the base's pooled output, and predict test rows.

    The base model is frozen.
    """
    from sklearn.linear_model import LogisticRegression

    train, test = _rows(of.train), _rows(of.test)
    known, asked = (_pooled(of, rows["x"].tolist()) for rows in (train, test))
    return LogisticRegression(max_iter=1000).fit(known, train["y"]).predict(asked).tolist()


def _pooled(of: Spec, x: list[str]) -> "np.ndarray[Any, Any]":
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = (
        AutoTokenizer.from_pretrained(of.base),
        AutoModel.from_pretrained(of.base).eval(),
    )
    found = list["np.ndarray[Any, Any]"]()
    with torch.inference_mode():
        for start in range(0, len(x), 32):
            batch = tokenizer(
                x[start : start + 32],
                padding=True,
                truncation=True,
                max_length=of.max_tokens,
                return_tensors="pt",
            )
            found.append(model(**batch).pooler_output.numpy())
    return np.concatenate(found)


def score_texts(folder: Path, x: list[str], max_tokens: int, size: int) -> "np.ndarray[Any, Any]":
    """Return the logits of a plain loop over texts, in their own order."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    on = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(on)
    found = list["np.ndarray[Any, Any]"]()
    with torch.inference_mode():
        for start in range(0, len(x), size):
            batch = tokenizer(
                x[start : start + size],
                padding=True,
                truncation=True,
                max_length=max_tokens,
                return_tensors="pt",
            )
            found.append(model(**batch.to(on)).logits.cpu().numpy())
    return np.concatenate(found)


def score_pictures(folder: Path, x: list[Path], side: int, size: int) -> "np.ndarray[Any, Any]":
    """Return the logits of a plain loop over pictures, each read by Pillow and made a square."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(folder)
    on = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForImageClassification.from_pretrained(folder).eval().to(on)
    stated: dict[str, Any] = {
        "size": {"height": side, "width": side},
        "do_center_crop": False,
        "return_tensors": "pt",
    }
    found = list["np.ndarray[Any, Any]"]()
    with torch.inference_mode():
        for start in range(0, len(x), size):
            read = [Image.open(path).convert("RGB") for path in x[start : start + size]]
            found.append(model(**processor(read, **stated).to(on)).logits.cpu().numpy())
    return np.concatenate(found)


def _rows(path: str) -> pd.DataFrame:
    rows = pd.read_parquet(path)[["x", "y"]]
    return rows.assign(y=[y if isinstance(y, str) else y[0] for y in rows["y"]])


if __name__ == "__main__":
    spec = Spec(**json.loads(Path(sys.argv[2]).read_text()))
    predicted = {"texts": texts, "pictures": pictures, "probe": probe}[sys.argv[1]](spec)
    Path(spec.out).write_text(json.dumps(predicted))
