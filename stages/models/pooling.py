"""Let a BERT classify a text by the mean over its tokens, and write it as a plain BERT.

sentence-transformers trains models that way; any tool opens a plain BERT.
"""

import copy
import re
from pathlib import Path
from typing import Any

from stages.contract import receipts

# What a model card says.
STATED = re.compile(r"mean[ _-]pool|average[ _-]pool|pooling_mode_mean_tokens\W+true", re.I)
# Of the mean over the state that a layer adds it to: the first token's own state is a thousandth of
# what is seen.
GAIN = 1e3
SHRINK = 1e-3  # of what goes through tanh, which is a straight line so near to 0


def is_stated(folder: Path) -> bool:
    """Tell whether a base model's files say that a text is the mean over its tokens.

    The files are those of sentence-transformers or, if it has none, its card.
    """
    if (stated := folder / "1_Pooling/config.json").is_file():
        return bool(receipts.read_json(stated).get("pooling_mode_mean_tokens"))
    card = folder / "README.md"
    return card.is_file() and bool(STATED.search(card.read_text("utf-8", errors="replace")))


def fits(model: Any) -> bool:
    """Tell whether a model's head can be given the mean.

    BERT's can: it has one layer of its own below it.
    """
    return type(model).__name__ == "BertForSequenceClassification"


def by_mean(model: Any) -> None:
    """Let the head of a BERT see the mean over the tokens instead of the first token's state.

    The mean leaves out padding and is layer-normalised.
    """
    import torch

    class Mean(torch.nn.Module):
        mask: Any = None

        def forward(self, states: Any) -> Any:
            weights = torch.ones_like(states[..., :1])
            if self.mask is not None:  # made-up keys and values have a mask, but no states
                weights = self.mask[:, -states.shape[1] :, None].to(states)
            mean = (states * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.layer_norm(mean, mean.shape[-1:])

    def look(encoder: Any, _: Any, named: dict[str, Any]) -> None:
        encoder.pooler.mask = named.get("attention_mask")

    model.base_model.pooler = Mean()
    model.base_model.register_forward_pre_hook(look, with_kwargs=True)


def sees_mean(model: Any) -> bool:
    """Tell whether a model's head was given the mean."""
    return type(getattr(model.base_model, "pooler", None)).__name__ == "Mean"


def plain(model: Any) -> Any:
    """Return a model as transformers' own classes compute it.

    A BERT that sees the mean gets one more layer, whose attention looks at all tokens alike, and a
    pooler that passes on its input: the logits differ by about a thousandth, because the layer adds
    the mean to the first token's state.
    """
    if not sees_mean(model):
        return model
    config = copy.deepcopy(model.config)
    config.num_hidden_layers += 1
    made = type(model)(config)
    made.load_state_dict(model.state_dict(), strict=False)
    _pass_on_the_mean(made)
    return made


def _pass_on_the_mean(model: Any) -> None:
    """Set the last layer, the pooler and the head so that the head sees the mean."""
    import torch

    base, even = model.base_model, torch.eye(model.config.hidden_size)
    layer, pooler = base.encoder.layer[-1], base.pooler
    with torch.no_grad():
        for weights in (*layer.parameters(), *pooler.parameters()):
            weights.zero_()
        layer.attention.self.value.weight.copy_(even)
        layer.attention.output.dense.weight.copy_(GAIN * even)
        layer.attention.output.LayerNorm.weight.fill_(1)
        layer.output.LayerNorm.weight.fill_(1)
        pooler.dense.weight.copy_(SHRINK * even)
        model.classifier.weight.div_(SHRINK)
