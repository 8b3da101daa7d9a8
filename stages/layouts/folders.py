"""Read a folder for each label, and in it a file for each sample.

Every file keeps its path, a bad file costs one row, and junk is counted.
"""

from pathlib import Path

import pandas as pd

from stages.contract import characters, paths
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.contract.modality import Modality
from stages.params.data import Folder, Folders
from stages.params.types import Encoding

JUNK = {"thumbs.db", "desktop.ini", "__macosx"}  # what systems leave, besides all hidden files


def is_junk(file: Path) -> bool:
    """Say whether a path, relative to the data, is what systems leave there and nobody means."""
    return any(step.startswith(".") or step.lower() in JUNK for step in file.parts)


def read(source: Path, layout: Folders, encoding: Encoding, of_x: Modality) -> pd.DataFrame:
    """Read every file: one row for each file, with the columns of protocols.Layout.

    A junk file has the code junk, and is never opened.
    """
    rows = [_read_folder(source, folder, layout, encoding, of_x) for folder in layout.folders]
    return characters.set_aside(pd.concat(rows, ignore_index=True), encoding)


def _read_folder(
    source: Path, folder: Folder, layout: Folders, encoding: Encoding, of_x: Modality
) -> pd.DataFrame:
    root = source / folder.path
    if not root.is_dir() or not root.resolve().is_relative_to(source.resolve()):
        raise TableError(f"{root}: is no folder of {source}; mend data.layout.folders")
    files = _files(root)
    rows = pd.DataFrame(
        [(p.relative_to(root).parts[0], p.relative_to(source).as_posix()) for p in files],
        columns=["y", "origin"],
        dtype=object,
    )
    stated = {"x": "", "meta": "{}", "given_part": folder.part, "code": None, "reason": None}
    rows = rows.assign(**stated).astype(object)
    _mark(rows, files, root, source, layout.suffixes)
    good = rows["code"].isna()
    rows.loc[good, ["x", "code", "reason"]] = of_x.reading.read(pd.Series(files)[good], encoding)
    return rows


def _files(root: Path) -> list[Path]:
    """Return the files in the folders of labels, junk too; raises TableError if one is empty."""
    contents = {
        label: sorted(p for p in label.rglob("*") if not p.is_dir())
        for label in sorted(root.iterdir())
        if label.is_dir()
    }
    labels = {label.name: held for label, held in contents.items() if not is_junk(Path(label.name))}
    if not labels:
        raise TableError(
            f"{root}: has no folder of a label; a folder a label is read, with the samples inside"
        )
    empty = [
        label for label, held in labels.items() if all(is_junk(p.relative_to(root)) for p in held)
    ]
    if empty:
        raise TableError(
            f"{root}: folder(s) without a file: {', '.join(map(extract, empty[:10]))}; "
            "put samples into them, or remove them"
        )
    return [p for held in contents.values() for p in held]


def _mark(
    rows: pd.DataFrame, files: list[Path], root: Path, source: Path, suffixes: tuple[str, ...]
) -> None:
    """Write code and reason into the rows of files that are no samples."""
    junk = pd.Series([is_junk(p.relative_to(root)) for p in files])
    rows.loc[junk, ["code", "reason"]] = ["junk", "left by a system or a program, and no sample"]
    suffix = pd.Series([path.suffix.lower() for path in files])
    foreign = ~suffix.isin(suffixes) & ~junk
    rows.loc[foreign, "code"] = "unknown_suffix"
    rows.loc[foreign, "reason"] = [
        f"'{extract(s)}' is not one of {', '.join(suffixes)}" for s in suffix[foreign]
    ]
    odd = ~foreign & ~junk & pd.Series([not paths.regular(path, source) for path in files])
    rows.loc[odd, ["code", "reason"]] = ["not_regular", "not a regular file inside the source"]
