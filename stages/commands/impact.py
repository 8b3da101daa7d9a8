"""Find every registered version that was trained on a file or folder of data, by DVC's hash."""

from dataclasses import dataclass
from pathlib import Path

from stages.contract import runner, store
from stages.contract.escape import one_line
from stages.project import hashes
from stages.registry import registered


@dataclass(frozen=True)
class Found:
    """A version that was trained on the data.

    source is the folder that the data was in, and md5 the hash of that folder.
    """

    version: str
    champion: bool
    source: str
    md5: str


@dataclass(frozen=True)
class Result:
    """The versions, of all models, that were trained on the data.

    untold maps the hash of each folder whose list of files is not in DVC's cache here to its
    versions.
    """

    file: str
    md5: str
    found: list[Found]
    untold: dict[str, list[str]]


def impact(file: Path) -> Result:
    """Compare a file or folder with what each registered version was trained on.

    Compare the hash of the file or folder, and of every file in it.
    """
    runner.quiet()
    md5, inside = hashes.of(file)
    store.ping()
    all_of, cache = registered.versions(), hashes.store().cache
    trained = {
        entry.tags[registered.DATA_MD5] for entry in all_of if registered.DATA_MD5 in entry.tags
    }
    files = {entry: inside if entry == md5 else hashes.listed(cache, entry) for entry in trained}
    found, untold = _among(all_of, inside, files)
    return Result(str(file), md5, found, untold)


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    return [
        *(
            f"{one_line(of.version, 80)}{' (champion)' if of.champion else ''}: "
            f"{one_line(of.source, 200)} {one_line(of.md5, 60)}"
            for of in found.found
        ),
        *(
            f"cannot tell: {one_line(', '.join(names), 300)}: the list of files of "
            f"{one_line(md5, 60)} is not in DVC's cache here; `dvc fetch` at its commit"
            for md5, names in found.untold.items()
        ),
        f"{one_line(found.file, 200)} ({found.md5}): {len(found.found)} versions were trained on "
        "it",
    ]


def _among(
    all_of: list[registered.Version],
    inside: frozenset[str],
    files: dict[str, frozenset[str] | None],
) -> tuple[list[Found], dict[str, list[str]]]:
    """Return the versions that learned from all files of `inside`, and those that cannot be told.

    files holds what is in each folder that versions learned from, by its hash.
    """
    champions = {name: registered.champion(name) for name in {entry.name for entry in all_of}}
    found, untold = list[Found](), dict[str, list[str]]()
    for version in all_of:
        data, shown = version.tags.get(registered.DATA_MD5, ""), f"{version.name}@{version.number}"
        held, champion = files.get(data, frozenset[str]()), champions[version.name]
        if held is None:
            untold.setdefault(data, []).append(shown)
        elif inside and inside <= held:
            is_champion = champion is not None and champion.number == version.number
            found.append(Found(shown, is_champion, version.tags.get("refit.data", ""), data))
    return found, untold
