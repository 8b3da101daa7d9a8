"""Keep what speed.py and growth.py measure, and write the tables of docs/performance.md.

The measurements lie in docs/performance.

python -m benchmarks.page   (make the tables and the plots anew, from what is kept)
"""

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks import elsewhere

FOLDER = elsewhere.ROOT / "docs/performance"
PAGE = elsewhere.ROOT / "docs/performance.md"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
KINDS = {
    "subsets": "make bench",
    "quick": "make bench-quick",
    "whole": "python -m benchmarks.speed --full",
}


def machine() -> dict[str, Any]:
    """Return the processor or GPU, memory, torch, commit, and load of the machine that measures."""
    import torch

    gpu = torch.cuda.is_available()
    about = Path("/proc/cpuinfo")
    told = (
        dict(re.findall(r"^(model name|flags)\s*:\s*(.*)$", about.read_text(), re.M))
        if about.is_file()
        else {}
    )
    git = ["git", "-C", str(elsewhere.ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": torch.cuda.get_device_name()
        if gpu
        else told.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in told.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "gib": round(psutil.virtual_memory().total / 2**30),
        "torch": version("torch"),
        "commit": commit or "no git",
        "load": round(os.getloadavg()[0], 1),
    }


def named(of: dict[str, Any]) -> str:
    """Return one sentence that names the machine."""
    flags = f" ({', '.join(of['flags'])})" if of["flags"] else ""
    return (
        f"{of['processor']}{flags}, {of['cores']} cores, {of['gib']} GiB, "
        f"torch {of['torch']}, code {of['commit']}, load average {of['load']:g} at the end"
    )


def read(name: str) -> dict[str, Any]:
    """Return what is kept under a name."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def keep(name: str, found: dict[str, Any]) -> None:
    """Add what was measured to what is kept under a name."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(read(name) | found, indent=1) + "\n")


def write() -> None:
    """Write the tables into the page, between its markers, and draw the plots."""
    text = PAGE.read_text()
    _draw_speed()
    _draw_growth()
    for name, table in (("speed", _speed()), ("growth", _growth()), ("idle", _idle())):
        picture = (
            f"![{name}](performance/{name}.png)\n\n" if (FOLDER / f"{name}.png").is_file() else ""
        )
        block = f"<!-- {name} -->\n\n{table}{picture}<!-- end of {name} -->"
        text, number = re.subn(
            f"<!-- {name} -->\n.*?<!-- end of {name} -->",
            lambda _, block=block: block,
            text,
            flags=re.S,
        )
        if number != 1:
            raise SystemExit(f"{PAGE}: has no place for {name}")
    PAGE.write_text(text)


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |\n"


def _head(*names: str) -> str:
    return _row(*names) + _row(*("---" for _ in names))


def _speed() -> str:
    """Return a table for each kind of run, and one of macro-F1."""
    found = ""
    for kind, command in KINDS.items():
        of = read("speed").get(kind)
        if not of:
            continue
        found += f"`{command}`: {named(of)}.\n\n"
        found += _head(
            "figure", "Refit", "beside it", "ratio (rounds)", "by seconds of cores", "goal"
        )
        for one in of["figures"]:
            sign = "at least" if one["at_least"] else "at most"
            met = (
                ""
                if one["goal"] is None
                else f"{sign} {one['goal']:g}: {'met' if one['met'] else '**missed**'}"
            )
            spread = f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f}, {one['rounds']})"
            other = f"{one['other']:,.4g} {one['unit']}, {one['against']}"
            cpu = "" if one["by_cpu"] is None else f"{one['by_cpu']:.2f}"
            found += _row(
                one["name"], f"{one['refit']:,.4g} {one['unit']}", other, spread, cpu, met
            )
        found += "\n"
        if of["scores"]:
            found += _head(
                "set", "way", "test rows", "macro-F1", "the stock script's", "difference (95 %)"
            )
        for one in of["scores"]:
            beside = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
            scores = (f"{one[name]:.3f}" for name in ("macro_f1", "stock_macro_f1"))
            found += _row(one["set"], one["way"], f"{one['test_rows']:,}", *scores, beside)
        found += "\n" if of["scores"] else ""
    return found or "Nothing is kept yet: run `make bench` where no other work runs.\n\n"


def _growth() -> str:
    found = ""
    for name, of in read("growth").items():
        if name == "idle":
            continue
        found += (
            f"{name[0].upper()}{name[1:]} ({named(of)}): seconds of cores, and MiB at most.\n\n"
        )
        sizes = sorted({row["rows"] for row in of["stages"]})
        found += _head(
            "stage", *(f"{size:,}" for size in sizes), "exponent from 10,000 up", "start left out"
        )
        fitted = {row["stage"]: row for row in of["exponents"]}
        for stage in dict.fromkeys(row["stage"] for row in of["stages"]):
            cells = {
                row["rows"]: f"{row['cpu_seconds']:.1f} s, {row['peak_mib']:,}"
                for row in of["stages"]
                if row["stage"] == stage
            }
            slopes = (
                [fitted[stage][name] for name in ("fitted", "beyond_start")]
                if stage in fitted
                else [None, None]
            )
            found += _row(
                stage,
                *(cells.get(size, "") for size in sizes),
                *("" if slope is None else slope for slope in slopes),
            )
        found += "\n"
    return found


def _idle() -> str:
    of = read("growth").get("idle")
    if not of:
        return ""
    names = ["dvc add", "first run", "nothing to do", "checkout of the out"]
    found = f"{named(of)}; seconds of cores (by the clock).\n\n" + _head(
        "small files", "an out of", *names
    )
    for row in of["projects"]:
        costs = (f"{row[name]['cpu']:.1f} ({row[name]['seconds']:.1f})" for name in names)
        found += _row(f"{row['files']:,}", row["out"], *costs)
    return found + "\n"


def _plots() -> Any:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def _draw_speed() -> None:
    """Draw the ratios of times as bars: those of the subsets if measured, else of a quick run."""
    of = next((read("speed")[kind] for kind in ("subsets", "quick") if kind in read("speed")), None)
    if of is None:
        return
    shown = [one for one in of["figures"] if not one["at_least"]][::-1]
    plt = _plots()
    figure, axes = plt.subplots(figsize=(9, 1 + 0.32 * len(shown)), layout="constrained")
    colours = [
        "tab:grey" if one["met"] is None else "tab:green" if one["met"] else "tab:red"
        for one in shown
    ]
    axes.barh([one["name"] for one in shown], [one["ratio"] for one in shown], color=colours)
    for place, one in enumerate(shown):
        if one["goal"] is not None:
            axes.plot([one["goal"]] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.axvline(1, color="black", linewidth=0.5)
    axes.set_xlabel("time of Refit over the time of what stands beside it (black: the goal)")
    figure.suptitle(named(of), fontsize="x-small")
    figure.savefig(FOLDER / "speed.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _draw_growth() -> None:
    """Draw seconds and memory by rows, on logarithmic axes."""
    kinds = {name: of for name, of in read("growth").items() if name != "idle"}
    if not kinds:
        return
    plt = _plots()
    figure, axes = plt.subplots(
        2, len(kinds), figsize=(4.5 * len(kinds), 7), squeeze=False, layout="constrained"
    )
    for column, (name, of) in zip(axes.T, kinds.items(), strict=True):
        for axis, (key, unit) in zip(
            column, (("cpu_seconds", "seconds of cores"), ("peak_mib", "MiB at most")), strict=True
        ):
            for stage in dict.fromkeys(row["stage"] for row in of["stages"]):
                rows = [row for row in of["stages"] if row["stage"] == stage]
                axis.loglog(
                    [row["rows"] for row in rows],
                    [row[key] for row in rows],
                    marker="o",
                    label=stage,
                )
            axis.set(xlabel="rows", ylabel=unit, title=name)
            axis.legend(fontsize="small")
    figure.savefig(FOLDER / "growth.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    write()
