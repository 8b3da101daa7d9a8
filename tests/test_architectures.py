"""Thirty architectures: Refit and transformers' pipeline agree on each, or one line refuses it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from PIL import Image
from transformers import pipeline

from stages.checks import trial
from stages.contract import plugins
from stages.contract.errors import ModelError
from stages.modalities.image import saliency
from stages.models import loading, scoring
from stages.models.saved import Base, Saved
from stages.params.compute import Compute
from stages.params.image import ImageModality
from stages.params.text import TextModality
from stages.problems import classification
from tests.conftest import rows, write_base

image = plugins.modality("image")
text = plugins.modality("text")

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
VISION = {"image_size": 64, "patch_size": 16}
FOUR: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
# Architecture -> configuration, its arguments, image processor.
PICTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "vit": ("ViTConfig", VISION | SMALL, "ViTImageProcessor"),
    "deit": ("DeiTConfig", VISION | SMALL, "DeiTImageProcessor"),
    "beit": ("BeitConfig",
             VISION | SMALL | {"out_indices": [1], "use_relative_position_bias": True},
             "BeitImageProcessor"),
    "data2vec": ("Data2VecVisionConfig", VISION | SMALL | {"out_indices": [1]},
                 "BeitImageProcessor"),
    "vit_msn": ("ViTMSNConfig", VISION | SMALL, "ViTImageProcessor"),
    "dinov2": ("Dinov2Config",
               VISION | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
               "BitImageProcessor"),
    "clip": ("CLIPConfig", {"text_config": {"vocab_size": 99, **SMALL},
                            "vision_config": VISION | SMALL, "projection_dim": 16},
             "CLIPImageProcessor"),
    "siglip": ("SiglipConfig", {"text_config": {"vocab_size": 99, **SMALL},
                                "vision_config": VISION | SMALL}, "SiglipImageProcessor"),
    "swin": ("SwinConfig", {"image_size": 64, "embed_dim": 16, "depths": [1, 1],
                            "num_heads": [2, 2], "window_size": 4}, "ViTImageProcessor"),
    "swinv2": ("Swinv2Config", {"image_size": 64, "embed_dim": 16, "depths": [1, 1],
                                "num_heads": [2, 2], "window_size": 4}, "ViTImageProcessor"),
    "convnext": ("ConvNextConfig", FOUR, "ConvNextImageProcessor"),
    "convnextv2": ("ConvNextV2Config", FOUR, "ConvNextImageProcessor"),
    "resnet": ("ResNetConfig", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
               "ConvNextImageProcessor"),
    "regnet": ("RegNetConfig",
               {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4},
               "ConvNextImageProcessor"),
    "bit": ("BitConfig",
            {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 4},
            "BitImageProcessor"),
    "mobilenet_v1": ("MobileNetV1Config", {"depth_multiplier": 0.25, "image_size": 64},
                     "MobileNetV1ImageProcessor"),
    "mobilenet_v2": ("MobileNetV2Config", {"depth_multiplier": 0.35, "image_size": 64},
                     "MobileNetV2ImageProcessor"),
    "mobilevit": ("MobileViTConfig",
                  {"hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 16, 16, 20, 24, 32],
                   "num_attention_heads": 2},
                  "MobileViTImageProcessor"),
    "mobilevitv2": ("MobileViTV2Config", {"width_multiplier": 0.25}, "MobileViTImageProcessor"),
    "efficientnet": ("EfficientNetConfig",
                     {"width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320},
                     "EfficientNetImageProcessor"),
    "levit": ("LevitConfig",
              {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2],
               "depths": [1, 1, 1], "key_dim": [8, 8, 8]},
              "LevitImageProcessor"),
    "poolformer": ("PoolFormerConfig", FOUR, "PoolFormerImageProcessor"),
    "pvt": ("PvtConfig", FOUR | {"image_size": 64, "num_attention_heads": [1, 1, 1, 1]},
            "PvtImageProcessor"),
    "focalnet": ("FocalNetConfig", {"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1]},
                 "BitImageProcessor"),
    "hiera": ("HieraConfig", {"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 1],
                              "num_heads": [1, 1, 1, 1]}, "BitImageProcessor"),
    "swiftformer": ("SwiftFormerConfig",
                    {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32]},
                    "ViTImageProcessor"),
    "imagegpt": ("ImageGPTConfig", {"n_embd": 32, "n_layer": 2, "n_head": 2},
                 "ImageGPTImageProcessor"),
}  # fmt: skip
MAPPED = (  # the ones whose saliency is looked at, after scoring
    "beit",
    "data2vec",
    "clip",
    "swin",
    "levit",
    "mobilevit",
)
TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", SMALL),
    "roberta": ("RobertaConfig", SMALL | {"pad_token_id": 0}),
    "xlm_roberta": ("XLMRobertaConfig", SMALL | {"pad_token_id": 0}),
    "distilbert": ("DistilBertConfig", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "electra": ("ElectraConfig", SMALL | {"embedding_size": 16}),
    "albert": ("AlbertConfig", SMALL | {"embedding_size": 16}),
    "deberta": ("DebertaV2Config", SMALL | {"type_vocab_size": 0}),
    "modernbert": (
        "ModernBertConfig",
        SMALL
        | {
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
    ),
    "mpnet": ("MPNetConfig", SMALL | {"pad_token_id": 0}),
    # Reads the last token: padded on the left alone.
    "xlnet": ("XLNetConfig", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0}),
    "llama": ("LlamaConfig", SMALL | {"pad_token_id": 0}),
}
COMPUTE = Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=4)
SIZES = ImageModality("image", (1, 1000), 10**6, (1, 1000), 72, 64, ("as_is",))


def save(base: Path, folder: Path, modality: Any, of_x: Any) -> scoring.Scorer:
    """Return what finetune leaves of a base model, as predict loads it.

    Its head is random and its outputs lie far apart.
    """
    torch.manual_seed(0)
    model, _ = loading.load(classification, base, modality.name, ["a", "b", "c"], new_head=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.shape[:1] == (3,) and parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape) * 3)
    model.save_pretrained(folder)
    of_x.encoding.stated(of_x.encoding.processor(base), modality).save_pretrained(folder)
    loaded, _ = loading.load(classification, folder, modality.name, ["a", "b", "c"], new_head=False)
    return scoring.Scorer(
        Saved("tiny", {}, "classification", ["a", "b", "c"], Base("base", "0"), "0"),
        of_x,
        classification,
        loaded.eval(),
        of_x.encoding.processor(folder),
        modality,
        COMPUTE,
    )


def assert_agree(
    scorer: scoring.Scorer, samples: pd.DataFrame, theirs: list[list[dict[str, Any]]]
) -> None:
    logits = scoring.outputs(scorer, scorer.encode(samples))
    ours = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = np.array(
        [
            [next(of["score"] for of in row if of["label"] == label) for label in "abc"]
            for row in theirs
        ]
    )
    assert np.abs(ours - found).max() < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_vision_model_says_what_transformers_says_or_is_refused_in_one_line(
    name: str, tmp_path: Path
) -> None:
    kind, arguments, processor = PICTURES[name]
    torch.manual_seed(0)
    transformers.AutoModel.from_config(getattr(transformers, kind)(**arguments)).save_pretrained(
        tmp_path / "base"
    )
    (tmp_path / "base/preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": processor})
    )
    try:
        modality = trial.fitting(tmp_path / "base", image, classification, SIZES)
    except ModelError as error:
        assert name == "imagegpt", error
        assert "makes no pixel_values of a picture" in str(error)
        return
    scorer = save(tmp_path / "base", tmp_path / "model", modality, image)
    drawn = np.random.default_rng(3)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(drawn.integers(0, 256, (8, 9, 3), dtype=np.uint8)).resize(
            (70 + 30 * i, 90), Image.Resampling.BICUBIC
        ).save(path)
    asked = pipeline(
        "image-classification", model=str(tmp_path / "model"), top_k=None, device="cpu"
    )
    assert_agree(
        scorer,
        pd.DataFrame({"x": [path.as_posix() for path in paths]}),
        asked([Image.open(path) for path in paths]),  # pyright: ignore[reportArgumentType]
    )
    encoded = scorer.encode(pd.DataFrame({"x": [path.as_posix() for path in paths]}))
    for i, path in enumerate(paths):  # a small random model may hardly feel what it sees
        seen = image.encoding.collate(scorer.processor)([encoded[i]])["pixel_values"]
        assert torch.allclose(
            seen,
            scorer.processor(images=Image.open(path), return_tensors="pt")["pixel_values"].float(),
            atol=1e-4,
        )
    if name in MAPPED:
        inputs = image.encoding.collate(scorer.processor)(
            [image.encoding.largest(scorer.processor, modality, 1)[0]]
        )["pixel_values"]
        assert np.isfinite(saliency.saliency(scorer.model, inputs, [0], 0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_a_language_model_says_what_transformers_says_or_is_refused_in_one_line(
    name: str, tmp_path: Path
) -> None:
    kind, arguments = TEXTS[name]
    base = write_base(tmp_path / "base")
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    transformers.AutoModel.from_config(
        getattr(transformers, kind)(vocab_size=size, **arguments)
    ).save_pretrained(base)
    modality = TextModality("text", (1, 1000), (1, 1000), 16)
    if name == "xlnet":
        with pytest.raises(
            ModelError,
            match=r"says something else of a row beside a longer one, padded on the right",
        ):
            trial.require(base, text, classification, modality)
        (base / "tokenizer_config.json").write_text(
            json.dumps(
                json.loads((base / "tokenizer_config.json").read_text()) | {"padding_side": "left"}
            )
        )
    scorer = save(
        base, tmp_path / "model", trial.fitting(base, text, classification, modality), text
    )
    samples = pd.DataFrame({"x": [of["text"] for of in rows(8)] + ["longer than all " * 20]})
    asked = pipeline(
        "text-classification",
        model=str(tmp_path / "model"),
        top_k=None,
        device="cpu",
        truncation=True,
    )
    assert_agree(scorer, samples, asked(samples["x"].tolist()))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_settings_that_a_base_does_not_take_are_one_line_with_those_that_it_takes(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    transformers.ViTModel(
        transformers.ViTConfig(image_size=224, patch_size=32, **SMALL)
    ).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit/preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor"})
    )
    with pytest.raises(
        ModelError,
        match=(
            r"cannot be trained with modality.shorter_side: 72, modality.crop: 64 .*; "
            r".*modality.crop: 224 would do"
        ),
    ):
        trial.require(tmp_path / "vit", image, classification, SIZES)
    assert trial.fitting(tmp_path / "vit", image, classification, SIZES) == replace(
        SIZES, shorter_side=252, crop=224
    )
    base = write_base(tmp_path / "roberta")
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    config = transformers.RobertaConfig(
        vocab_size=size, max_position_embeddings=514, pad_token_id=1, **SMALL
    )
    transformers.RobertaModel(config).save_pretrained(base)
    (base / "tokenizer_config.json").write_text(
        json.dumps(
            json.loads((base / "tokenizer_config.json").read_text()) | {"model_max_length": 10**9}
        )
    )
    with pytest.raises(
        ModelError,
        match=(
            r"cannot be trained with modality.max_tokens: 514 \(IndexError.*\); "
            r"modality.max_tokens: 512 would do"
        ),
    ):
        trial.require(base, text, classification, TextModality("text", (1, 9999), (1, 9999), 514))
