"""Let made-up tokens learn, by peft, and what is new: the three ways of prompt tuning."""

from dataclasses import replace
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.learning import Learning, read
from stages.contract.protocols import Start
from stages.models import adapters

SMALL = 0.02  # what made-up keys and values begin as, so that nothing attends to them yet


def around(start: Start, learning: Learning, config: Any) -> tuple[Any, Learning]:
    """Return a module around the base model in which a peft configuration's tokens learn.

    Made-up tokens begin as some of the vocabulary's. What the module saves in a checkpoint is what
    learns. A head that was solved was so without the tokens, so the model as it begins is not among
    the epochs that are compared. Raises ModelError if the model has no room for the
    tokens, or if peft has no way to give it any.
    """
    import torch

    model, tokens = start.model, config.num_virtual_tokens
    room = _positions(model)
    if room is not None and tokens + start.settings.max_tokens > room:
        raise ModelError(
            f"finetune.tune.tokens: {tokens} and modality.max_tokens {start.settings.max_tokens} "
            f"are more than the {room} positions of the base model; lower one of them"
        )
    try:
        made = adapters.wrap(model, config)
        _try(made, learning)
    except Exception as error:
        # peft looks for tables and attention by name, and raises whatever it stumbles on.
        raise ModelError(
            f"finetune.tune: peft cannot give this base model made-up tokens "
            f"({one_line(f'{type(error).__name__}: {error}', 200)}); say lora, or another tune"
        ) from error
    _begin(made, config.peft_type.value)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in start.new)

    class Around(torch.nn.Module):
        _keys_to_ignore_on_save = None  # Trainer looks for it where a checkpoint lacks weights

        def __init__(self) -> None:
            super().__init__()
            self.model = made

        def forward(self, labels: Any = None, **inputs: Any) -> Any:  # noqa: ARG002  (Trainer looks for it)
            return self.model(**inputs)

        def get_input_embeddings(self) -> Any:
            return model.get_input_embeddings()

        def state_dict(self, *given: Any, **named: Any) -> Any:
            learns = {name for name, value in self.named_parameters() if value.requires_grad}
            whole = super().state_dict(*given, **named)
            return {name: value for name, value in whole.items() if name in learns}

        def load_state_dict(
            self,
            state_dict: Any,
            strict: bool = True,  # noqa: ARG002  (what does not learn is not in a checkpoint)
            assign: bool = False,
        ) -> Any:
            return super().load_state_dict(state_dict, strict=False, assign=assign)

    return Around(), replace(learning, begun=None)


def _positions(model: Any) -> int | None:
    """Return how many tokens a model has positions for, None if it does not say."""
    import torch

    room = getattr(model.config, "max_position_embeddings", None)
    if room is None:
        return None
    for layer in model.modules():
        # RoBERTa and its kin count from behind their padding
        if isinstance(layer, torch.nn.Embedding) and layer.num_embeddings == room:
            return room - (0 if layer.padding_idx is None else layer.padding_idx + 1)
    return room


def _try(made: Any, learning: Learning) -> None:
    """Send a row through a model with tokens: many architectures stumble only then."""
    import torch

    training, device = made.training, next(made.parameters()).device
    inputs = read(learning.collate([learning.train[0]]))
    with torch.no_grad():
        made.eval()(**{name: of.to(device) for name, of in inputs.items()})
    made.train(training)


def _begin(made: Any, kind: str) -> None:
    """Set what the tokens begin as; a network that makes them begins as peft draws it."""
    import torch

    tokens = made.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        if kind == "PREFIX_TUNING":
            tokens.mul_(SMALL)
        elif kind == "PROMPT_TUNING":
            table = made.get_input_embeddings().weight
            tokens.copy_(table[torch.randint(len(table), (len(tokens),))])
