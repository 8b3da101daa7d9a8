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
    """the table of token embeddings learns too"""


@dataclass(frozen=True)
class LinearProbe(Strict):
    """Nothing learns by steps: the head stays as finetune.head solves it. epochs, learning rates and batch_size are not read."""

    name: Literal["linear_probe"]


@dataclass(frozen=True)
class Freeze(Strict):
    """The top layers and the new head learn; what lies below stays as it is."""

    name: Literal["freeze"]
    layers: Count
    """top layers that learn"""


@dataclass(frozen=True)
class Lora(Strict):
    """Low-rank updates of the linear layers learn, and the new head; they are merged into the saved model (Hu et al. 2021)."""

    name: Literal["lora"]
    rank: Count
    """of each update"""
    alpha: Positive
    """updates count alpha / rank times"""
    dropout: BelowOne
    """on the way into an update"""
    targets: Annotated[tuple[Text, ...], Field(min_length=1)] | Literal["all-linear"]
    """names of the layers to update, such as [query, value], or all-linear"""


@dataclass(frozen=True)
class RandomHead(Strict):
    """Small random numbers, by the seed."""

    name: Literal["random"]


@dataclass(frozen=True)
class ProbeHead(Strict):
    """The linear model of probe_logistic: what reaches the head comes from the base model as it was pretrained; kept where no epoch is better on validation."""

    name: Literal["probe"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """inverse strengths of regularisation that are tried; the one that makes labels which were not learned from likeliest is taken"""


@dataclass(frozen=True)
class CrossEntropy(Strict):
    """The negative log-likelihood of the right label."""

    name: Literal["cross_entropy"]
    label_smoothing: BelowOne
    """share of the target that is spread over all labels"""
    class_weights: Literal["none", "balanced"]
    """balanced: a row counts rows / (labels * rows of its label)"""

    @property
    def balanced(self) -> bool:
        """Whether labels weigh alike."""
        return self.class_weights == "balanced"


@dataclass(frozen=True)
class Standard(Strict):
    """The loss that transformers has for the problem: of several labels binary cross-entropy, of numbers the squared error."""

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
    """of the new head, the order of rows and dropout"""
    tune: Annotated[Full | LinearProbe | Freeze | Lora, Field(discriminator="name")]
    """what learns"""
    head: Annotated[RandomHead | ProbeHead, Field(discriminator="name")]
    """what the new head begins as"""
    objective: Annotated[CrossEntropy | Standard, Field(discriminator="name")]
    """what is minimised"""
    loop: Local
    """where the steps are taken"""
    epochs: Count
    """at most"""
    early_stopping_patience: Count | None
    """stop after so many epochs that are no better than the best; null runs them all"""
    batch_size: Count
    """rows a step"""
    learning_rate: Positive
    """at its peak (AdamW)"""
    head_learning_rate: Positive
    """the same of the new head, which has further to go where it begins at random"""
    schedule: Literal["linear", "cosine", "constant_with_warmup"]
    """of the learning rate"""
    warmup: BelowOne
    """share of all steps"""
    weight_decay: NotNegative
    """of AdamW"""
    dropout: BelowOne | None
    """of every dropout layer; null keeps the base model's own"""
    batchnorm_momentum: Fraction | None
    """of running statistics; null keeps the base model's own (transformers' MobileNetV2: .997, hence the last batch alone)"""
    max_grad_norm: Positive
    """gradients are clipped to this norm"""
    best_metric: Metric | Literal["loss", "last"]
    """of validation; decides which epoch is kept, and where it ties the loss does; last keeps the last epoch, whatever validation says"""

    def __post_init__(self) -> None:
        if self.best_metric == "last" and self.early_stopping_patience is not None:
            raise ValueError(
                "early_stopping_patience counts epochs that are no better than the best; with best_metric: last it must be null"
            )
        if isinstance(self.tune, LinearProbe) and isinstance(self.head, RandomHead):
            raise ValueError(
                "with tune: {name: linear_probe} nothing but head: {name: probe, c: [...]} learns; say so"
            )
