"""Reads a folder a label, a file a sample: every file keeps its path, a bad file costs one row."""

from pathlib import Path

import pandas as pd

from stages.checks import characters
from stages.contract import paths
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.contract.params import Folder, Folders
from stages.contract.plugins import Modality


def read(source: Path, layout: Folders, of_x: Modality) -> pd.DataFrame:
    """Read every file: one row a file, columns as plugins.Layout says. Hidden files and folders are not looked at."""
    return characters.set_aside(pd.concat([_read_folder(source, folder, layout, of_x) for folder in layout.folders], ignore_index=True))


def _read_folder(source: Path, folder: Folder, layout: Folders, of_x: Modality) -> pd.DataFrame:
    root = source / folder.path
    if not root.is_dir() or not root.resolve().is_relative_to(source.resolve()):
        raise TableError(f"{root}: is no folder of {source}; mend data.layout.folders")
    files = sorted(p for label in root.iterdir() if label.is_dir() for p in label.rglob("*") if not p.is_dir())
    files = [p for p in files if not any(step.startswith(".") for step in p.relative_to(root).parts)]
    if not files:
        raise TableError(f"{root}: holds no folder with a file in it; a folder a label is read, with the samples inside")
    stated = {"x": "", "meta": "{}", "given_part": folder.part, "code": None, "reason": None}
    rows = pd.DataFrame([(p.relative_to(root).parts[0], p.relative_to(source).as_posix()) for p in files], columns=["y", "origin"], dtype=object)
    rows = rows.assign(**stated).astype(object)

    suffix = pd.Series([path.suffix.lower() for path in files])
    foreign = ~suffix.isin(layout.suffixes)
    rows.loc[foreign, "code"] = "unknown_suffix"
    rows.loc[foreign, "reason"] = [f"'{extract(s)}' is not one of {', '.join(layout.suffixes)}" for s in suffix[foreign]]
    odd = ~foreign & pd.Series([not paths.regular(path, source) for path in files])
    rows.loc[odd, ["code", "reason"]] = ["not_regular", "not a regular file inside the source"]
    good = rows["code"].isna()
    rows.loc[good, ["x", "code", "reason"]] = of_x.read(pd.Series(files)[good])
    return rows
