"""How the base model learns."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.params.types import (
    BelowOne,
    Count,
    Fraction,
    Key,
    Metric,
    NotNegative,
    Positive,
    Seed,
    Sha256,
    Share,
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
    rslora: bool
    """multiply by alpha / sqrt(rank) instead: greater ranks learn too (Kalajdzievski 2023)"""
    dora: bool
    """length and direction of each weight learn separately (Liu et al. 2024); takes longer"""


@dataclass(frozen=True)
class Gradual(Strict):
    """The head learns first, then one layer after another from the top (Howard & Ruder 2018)."""

    name: Literal["gradual"]
    epochs_a_layer: Count
    """epochs until the next layer begins to learn"""
    decay: Annotated[float, Field(gt=0, le=1)]
    """learning rate of a layer, as a share of that of the layer above it"""


@dataclass(frozen=True)
class BitFit(Strict):
    """Biases learn, and the new head (Ben Zaken, Ravfogel & Goldberg 2022)."""

    name: Literal["bitfit"]


@dataclass(frozen=True)
class Ia3(Strict):
    """Factors of keys, values and feed-forward features learn, and the head (Liu et al. 2022)."""

    name: Literal["ia3"]
    targets: Annotated[tuple[Text, ...], Field(min_length=1)] | None
    """names of the layers whose features are multiplied, such as [key, value, output.dense]; null
    takes those that peft knows for the architecture"""
    feedforward: tuple[Text, ...]
    """those of the targets whose inputs are multiplied: feed-forward layers; [] for null"""

    def __post_init__(self) -> None:
        if foreign := set(self.feedforward) - set(self.targets or ()):
            raise ValueError(f"feedforward: {', '.join(sorted(foreign))} is none of the targets")


@dataclass(frozen=True)
class Prompt(Strict):
    """Made-up tokens before each text learn, and the head (Lester, Al-Rfou & Constant 2021)."""

    READS = "text"

    name: Literal["prompt"]
    tokens: Count
    """number of made-up tokens; each text takes as many more"""


@dataclass(frozen=True)
class PTuning(Strict):
    """Made-up tokens learn through a small network, and the head (Liu et al. 2021)."""

    READS = "text"

    name: Literal["p_tuning"]
    tokens: Count
    """number of made-up tokens; each text takes as many more"""
    width: Count
    """width of the network; only the tokens that it gives are saved"""


@dataclass(frozen=True)
class Prefix(Strict):
    """Made-up keys and values of every layer learn, and the head (Li & Liang 2021)."""

    READS = "text"

    name: Literal["prefix"]
    tokens: Count
    """number of made-up tokens that each layer attends to"""


@dataclass(frozen=True)
class ZeroShot(Strict):
    """Nothing learns: a row gets the label whose name is nearest to it by the base model."""

    READS = "text"
    LABELS = ("one",)

    name: Literal["zero_shot"]
    templates: Annotated[tuple[Text, ...], Field(min_length=1)]
    """texts with {label} or {description} in them; the mean over them stands for a label"""
    descriptions: dict[Text, Text]
    """label: what {description} says of it; its name unless stated"""
    temperature: Positive
    """by which the cosine of a row and a label is divided to give logits"""

    def __post_init__(self) -> None:
        for template in self.templates:
            if not any(field in template for field in ("{label}", "{description}")):
                raise ValueError("templates: each must have {label} or {description} in it")


@dataclass(frozen=True)
class FewShot(Strict):
    """Rows of a label are drawn together, and the head is solved (Tunstall et al. 2022, SetFit)."""

    LABELS = ("one",)

    name: Literal["few_shot"]
    pairs: Count
    """pairs that each row begins in an epoch, with another row of its label"""
    temperature: Positive
    """the smaller, the more the nearest rows of other labels count"""
    c: Positive
    """inverse strength of the head's regularisation"""
    templates: tuple[Text, ...]
    """texts with {label} in them, which are rows of that label too; [] for none"""

    def __post_init__(self) -> None:
        if any("{label}" not in template for template in self.templates):
            raise ValueError("templates: each must have {label} in it")


Tune = (
    Full
    | LinearProbe
    | Freeze
    | Gradual
    | Lora
    | Ia3
    | BitFit
    | Prompt
    | PTuning
    | Prefix
    | ZeroShot
    | FewShot
)


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


def _is_balanced(objective: Any) -> bool:
    """Whether all labels weigh the same."""
    return objective.class_weights == "balanced"


BALANCED = property(_is_balanced)


@dataclass(frozen=True)
class CrossEntropy(Strict):
    """The negative log-likelihood of the right label."""

    LABELS = ("one",)

    name: Literal["cross_entropy"]
    label_smoothing: BelowOne
    """share of the target that is spread over all labels"""
    class_weights: Literal["none", "balanced"]
    """balanced gives each row the weight rows / (labels * rows of its label)"""

    balanced = BALANCED


@dataclass(frozen=True)
class Standard(Strict):
    """transformers' loss: binary cross-entropy for several labels, squared error for numbers."""

    LABELS = ("several", "none")
    balanced = False

    name: Literal["standard"]


@dataclass(frozen=True)
class Focal(Strict):
    """The cross-entropy, which counts a row less the surer the model is of it (Lin et al. 2017)."""

    LABELS = ("one",)

    name: Literal["focal"]
    gamma: NotNegative
    """how much less: each row has the weight (1 - p)^gamma"""
    class_weights: Literal["none", "balanced"]
    """balanced gives each row the weight rows / (labels * rows of its label)"""

    balanced = BALANCED


@dataclass(frozen=True)
class Adversarial(Strict):
    """The problem's loss, and that of rows after the small shift of embeddings or pixels that hurts
    most (FGM, FGSM, PGD, FreeLB).
    """

    LABELS = ("one", "several", "none")
    balanced = False

    name: Literal["adversarial"]
    attack: Literal["pgd", "freelb"]
    """pgd takes the loss after the last step, freelb the mean of all; a single step of pgd is FGM
    (norm l2) or FGSM (norm inf)"""
    norm: Literal["l2", "inf"]
    """how a shift is measured: its length, or its greatest value"""
    radius: Positive
    """how far a row is shifted at most, as a share of its own length or typical value"""
    steps: Count
    """steps of each attack; each takes as long as a training step"""
    share: Fraction
    """share of the shifted rows in the loss"""


@dataclass(frozen=True)
class Mixup(Strict):
    """The problem's loss of mixtures of two pictures (mixup, CutMix)."""

    READS = "image"
    LABELS = ("one", "several", "none")
    balanced = False

    name: Literal["mixup"]
    alpha: Positive
    """shares are drawn from Beta(alpha, alpha): small, and one picture is nearly all"""
    cut: bool
    """a rectangle of the other picture replaces the first's (CutMix); else both are blended"""


@dataclass(frozen=True)
class Consistency(Strict):
    """The problem's loss, and how far what the model says of a row twice is apart."""

    LABELS = ("one", "several", "none")
    balanced = False

    name: Literal["consistency"]
    of: Literal["dropout", "copies"]
    """dropout: two passes with two draws of it (R-Drop); copies: a row and its altered copy"""
    weight: Positive
    """weight of the distance; each step takes twice as long"""


@dataclass(frozen=True)
class Contrastive(Strict):
    """The cross-entropy, and how far rows of one label are apart (supervised contrastive)."""

    LABELS = ("one",)
    balanced = False

    name: Literal["contrastive"]
    temperature: Positive
    """the smaller, the more the nearest rows count"""
    share: Fraction
    """share of the contrast in the loss"""


@dataclass(frozen=True)
class Distill(Strict):
    """The problem's loss, and how far the model is from a teacher (Hinton et al. 2015)."""

    LABELS = ("one", "several", "none")
    balanced = False

    name: Literal["distill"]
    teacher: Key
    """a source with a model of Refit's: data/raw/TEACHER, brought by `refit reuse`"""
    sha256: Sha256
    """of the teacher's files, as `refit reuse` prints it"""
    share: Share
    """share of the teacher in the loss"""
    temperature: Annotated[float, Field(ge=1)]
    """by which logits are divided: the higher, the more the labels that are nearly right count"""
    features: NotNegative
    """weight of how alike rows are to the teacher (what reaches its head) and to the model"""


Objective = (
    CrossEntropy | Standard | Focal | Adversarial | Mixup | Consistency | Contrastive | Distill
)


@dataclass(frozen=True)
class AdamW(Strict):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"]


@dataclass(frozen=True)
class Sgd(Strict):
    """Stochastic gradient descent with momentum; wants a greater learning rate than AdamW."""

    name: Literal["sgd"]
    momentum: BelowOne
    """share of the last step that the next one repeats"""


@dataclass(frozen=True)
class Adafactor(Strict):
    """Adafactor (Shazeer & Stern 2018), which keeps a row and a column for each matrix."""

    name: Literal["adafactor"]


@dataclass(frozen=True)
class NoAverage(Strict):
    """The weights of the epoch that is kept."""

    name: Literal["none"]


@dataclass(frozen=True)
class Ema(Strict):
    """The moving average of the weights over steps is validated and kept."""

    name: Literal["ema"]
    decay: Fraction
    """share of the average that each step keeps: .99 is about the last hundred steps"""


@dataclass(frozen=True)
class Soup(Strict):
    """The mean of the epochs that make it better on validation (greedy; Wortsman et al. 2022)."""

    name: Literal["soup"]


@dataclass(frozen=True)
class Local(Strict):
    """transformers.Trainer in this process."""

    name: Literal["local"]


@dataclass(frozen=True)
class Finetune(Strict):
    """How the base model learns."""

    seed: Seed
    """seed of the new head, the order of rows and dropout"""
    tune: Annotated[Tune, Field(discriminator="name")]
    """what learns; linear_probe and zero_shot do not read epochs, learning rates and batch_size"""
    head: Annotated[RandomHead | ProbeHead, Field(discriminator="name")]
    """what the new head begins as"""
    objective: Annotated[Objective, Field(discriminator="name")]
    """what is minimised"""
    loop: Local
    """where the steps are taken"""
    epochs: Count
    """epochs at most"""
    early_stopping_patience: Count | None
    """stop after this many epochs that are no better than the best; null runs them all"""
    batch_size: Count
    """rows that go through the model together"""
    accumulation: Count
    """batches in each step"""
    optimizer: Annotated[AdamW | Sgd | Adafactor, Field(discriminator="name")]
    """how a gradient becomes a step"""
    learning_rate: Positive
    """learning rate at its peak"""
    head_learning_rate: Positive
    """the same for the new head, which has further to go if it begins at random"""
    schedule: Literal["linear", "cosine", "one_cycle", "constant_with_warmup"]
    """schedule of the learning rate; one_cycle moves Adam's or SGD's momentum too (Smith 2018)"""
    warmup: BelowOne
    """share of all steps in which the learning rate rises"""
    weight_decay: NotNegative
    """share of a weight that a step takes off, times the learning rate; not of biases and norms"""
    dropout: BelowOne | None
    """rate of every dropout layer; null keeps the base model's own"""
    batchnorm_momentum: Fraction | None
    """momentum of running statistics; null keeps the base model's own (transformers' MobileNetV2:
    .997, hence the last batch alone)"""
    max_grad_norm: Positive
    """gradients are clipped to this norm"""
    averaging: Annotated[NoAverage | Ema | Soup, Field(discriminator="name")]
    """which mean of weights is kept"""
    best_metric: Metric | Literal["loss", "last"]
    """validation metric that decides which epoch is kept; if it ties, the loss decides; last keeps
    the last epoch, whatever validation says"""

    def __post_init__(self) -> None:
        if self.best_metric == "last" and self.early_stopping_patience is not None:
            raise ValueError(
                "early_stopping_patience counts epochs that are no better than the best; "
                "with best_metric: last it must be null"
            )
        if isinstance(self.tune, FewShot) and not isinstance(self.objective, CrossEntropy):
            raise ValueError(
                "tune: {name: few_shot} minimises the distance of pairs; say objective: "
                "{name: cross_entropy, ...}, by which validation measures the head"
            )
        if isinstance(self.tune, FewShot) and isinstance(self.averaging, Ema):
            raise ValueError(
                "averaging: {name: ema} averages what steps change, and few_shot solves the head "
                "after them; say none or soup"
            )
        if isinstance(self.tune, LinearProbe | ZeroShot) and isinstance(self.objective, Distill):
            raise ValueError(
                f"objective: with tune: {{name: {self.tune.name}}} nothing learns by steps, so "
                "nobody would ask the teacher; say another"
            )
        copies = isinstance(self.objective, Consistency) and self.objective.of == "copies"
        if copies and isinstance(self.tune, Freeze):
            raise ValueError(
                "objective: {name: consistency, of: copies} sends copies through every layer, and "
                "with tune: {name: freeze} frozen ones are computed once; say full, or of: dropout"
            )
        if isinstance(self.averaging, Soup) and self.best_metric == "last":
            raise ValueError("averaging: {name: soup} chooses by validation; name a best_metric")
        if isinstance(self.optimizer, Adafactor) and self.schedule == "one_cycle":
            raise ValueError("schedule: one_cycle moves a momentum, which adafactor has not")
        if isinstance(self.tune, ZeroShot) and isinstance(self.head, ProbeHead):
            raise ValueError(
                "with tune: {name: zero_shot} the names of the labels make the head; say "
                "head: {name: random}"
            )
        if isinstance(self.tune, LinearProbe) and isinstance(self.head, RandomHead):
            raise ValueError(
                "with tune: {name: linear_probe} nothing but head: {name: probe, c: [...]} learns; "
                "say so"
            )
