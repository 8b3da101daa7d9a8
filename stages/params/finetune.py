"""How the base model learns."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stages.params.types import (
    BelowOne,
    Count,
    Fraction,
    Metric,
    NotNegative,
    Positive,
    Seed,
    Strict,
    Text,
)


@dataclass(frozen=True)
class Full(Strict):
    """Everything learns."""

    name: Literal["full"]
    embeddings: bool
    """let the table of token embeddings learn too"""


@dataclass(frozen=True)
class LinearProbe(Strict):
    """Nothing learns by steps: the head stays as finetune.head solves it."""

    name: Literal["linear_probe"]


@dataclass(frozen=True)
class Freeze(Strict):
    """The top layers and the new head learn; the layers below stay as they are."""

    name: Literal["freeze"]
    layers: Count
    """number of top layers that learn"""


@dataclass(frozen=True)
class Lora(Strict):
    """Low-rank updates of the linear layers learn, and the new head (Hu et al. 2021)."""

    name: Literal["lora"]
    rank: Count
    """rank of each update; updates are merged into the saved model"""
    alpha: Positive
    """updates are multiplied by alpha / rank"""
    dropout: BelowOne
    """dropout on the input of an update"""
    targets: Annotated[tuple[Text, ...], Field(min_length=1)] | Literal["all-linear"]
    """names of the layers to update, such as [query, value], or all-linear"""


@dataclass(frozen=True)
class RandomHead(Strict):
    """Small random numbers, drawn by the seed."""

    name: Literal["random"]


@dataclass(frozen=True)
class ProbeHead(Strict):
    """The linear model of probe_logistic; kept if no epoch is better on validation."""

    name: Literal["probe"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """inverse strengths of regularisation to try, on what the base model, as it was pretrained,
    hands the head; the one is used that makes labels which were not learned from likeliest"""


@dataclass(frozen=True)
class CrossEntropy(Strict):
    """The negative log-likelihood of the right label."""

    name: Literal["cross_entropy"]
    label_smoothing: BelowOne
    """share of the target that is spread over all labels"""
    class_weights: Literal["none", "balanced"]
    """balanced gives each row the weight rows / (labels * rows of its label)"""

    @property
    def balanced(self) -> bool:
        """Whether all labels weigh the same."""
        return self.class_weights == "balanced"


@dataclass(frozen=True)
class Standard(Strict):
    """transformers' loss: binary cross-entropy for several labels, squared error for numbers."""

    balanced = False

    name: Literal["standard"]


@dataclass(frozen=True)
class Local(Strict):
    """transformers.Trainer in this process."""

    name: Literal["local"]


@dataclass(frozen=True)
class Finetune(Strict):
    """How the base model learns."""

    seed: Seed
    """seed of the new head, the order of rows and dropout"""
    tune: Annotated[Full | LinearProbe | Freeze | Lora, Field(discriminator="name")]
    """what learns; linear_probe does not read epochs, learning rates and batch_size"""
    head: Annotated[RandomHead | ProbeHead, Field(discriminator="name")]
    """what the new head begins as"""
    objective: Annotated[CrossEntropy | Standard, Field(discriminator="name")]
    """what is minimised"""
    loop: Local
    """where the steps are taken"""
    epochs: Count
    """epochs at most"""
    early_stopping_patience: Count | None
    """stop after this many epochs that are no better than the best; null runs them all"""
    batch_size: Count
    """rows in each step"""
    learning_rate: Positive
    """learning rate at its peak (AdamW)"""
    head_learning_rate: Positive
    """the same for the new head, which has further to go if it begins at random"""
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    """schedule of the learning rate"""
    warmup: BelowOne
    """share of all steps in which the learning rate rises"""
    weight_decay: NotNegative
    """weight decay of AdamW"""
    dropout: BelowOne | None
    """rate of every dropout layer; null keeps the base model's own"""
    batchnorm_momentum: Fraction | None
    """momentum of running statistics; null keeps the base model's own (transformers' MobileNetV2:
    .997, hence the last batch alone)"""
    max_grad_norm: Positive
    """gradients are clipped to this norm"""
    best_metric: Metric | Literal["loss", "last"]
    """validation metric that decides which epoch is kept; if it ties, the loss decides; last keeps
    the last epoch, whatever validation says"""

    def __post_init__(self) -> None:
        if self.best_metric == "last" and self.early_stopping_patience is not None:
            raise ValueError(
                "early_stopping_patience counts epochs that are no better than the best; "
                "with best_metric: last it must be null"
            )
        if isinstance(self.tune, LinearProbe) and isinstance(self.head, RandomHead):
            raise ValueError(
                "with tune: {name: linear_probe} nothing but head: {name: probe, c: [...]} learns; "
                "say so"
            )
