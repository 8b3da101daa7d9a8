"""Install what constraints.txt names into the environment that runs this file.

pip installs torch, and uv, which is ten times faster, installs the rest. `make setup` runs this
file. It imports only the standard library, because nothing else is installed yet.
"""

import ast
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree

ROOT = Path(__file__).parents[1]
# pip's options, the variables that tell uv the same, and what uv puts between several values.
OPTIONS = {
    "index-url": ("UV_INDEX_URL", " "),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
}
PATHS = {"find-links", "constraint", "cert", "client-cert"}
# What the stages and DVC import. It is compiled to bytecode here, once and side by side, rather
# than by the first stage that needs it. Compiling all 26,000 files would take 50 s; these use a
# fifth of them.
USED = (
    "dvc.cli, dvc.commands.repro, great_expectations, mlflow.pyfunc, prefect",
    "torch, transformers.trainer, albumentations, peft, matplotlib.pyplot, sklearn.linear_model",
)


def main() -> None:
    """Install everything, or repair what an interrupted set-up left."""
    under_way = Path(sys.prefix, ".installing")
    if under_way.exists():
        for name in forget_damaged(Path(sysconfig.get_path("purelib"))):
            print(f"set-up: an earlier one was interrupted; {name} is installed again", flush=True)
    under_way.touch()
    versions = pins()
    pip("--no-compile", f"torch=={versions['torch']}")
    rest = ("-c", "constraints.txt", "-e", ".[dev]")
    if fault := by_uv(versions["uv"], rest):
        print(
            f"set-up: {fault}; pip installs the rest, which takes a minute or two longer",
            flush=True,
        )
        pip("--no-compile", *rest)
    compile_used()
    under_way.unlink()


def pins() -> dict[str, str]:
    """Return the versions that constraints.txt states, by package."""
    return dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )


def pip(*arguments: str) -> None:
    """Run `pip install`; if it fails, exit with its exit code, after its own message."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *arguments,
        ],
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)


def by_uv(version: str, arguments: tuple[str, ...]) -> str | None:
    """Install with uv from where pip would install; return what went wrong, or None."""
    quietly = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if subprocess.run(
        [*quietly, "install", f"uv=={version}"], capture_output=True, check=False
    ).returncode:
        return f"uv {version} cannot be installed"
    settings = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        *arguments,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=as_uv_says(settings) | os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return None
    return f"uv failed ({' '.join(done.stderr.split())[:300]})"


def as_uv_says(configured: str) -> dict[str, str]:
    """Return the variables that tell uv what `pip config list` says.

    An option of [install] overrides the same one of [global], and the environment overrides both.
    """
    found = dict[str, list[str]]()
    for where in ("global", "install", ":env:"):
        for line in configured.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(f"{where}.") and (name := key.removeprefix(f"{where}.")) in OPTIONS:
                words = str(ast.literal_eval(value)).split()
                found[name] = [
                    str(Path(word).expanduser()) if name in PATHS and "://" not in word else word
                    for word in words
                ]
    variables = {OPTIONS[name][0]: OPTIONS[name][1].join(words) for name, words in found.items()}
    # pip takes the best version of all indexes; uv by default looks no further than the first index
    # that knows the package.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match"} | variables


def forget_damaged(packages: Path) -> list[str]:
    """Remove the records of packages with missing or truncated files, and return their names.

    The packages are then installed again.
    """
    found = list[str]()
    for folder in sorted(packages.glob("*.dist-info")):
        files = importlib.metadata.Distribution.at(folder).files
        if files is None or not all(_is_whole(file) for file in files):
            found.append(folder.name.partition("-")[0])
            rmtree(folder)
    return found


def _is_whole(file: importlib.metadata.PackagePath) -> bool:
    path = Path(str(file.locate()))
    return path.exists() and file.size in (None, path.stat().st_size)


def compile_used(environment: Mapping[str, str] = os.environ) -> None:
    """Import what the stages use, to write its bytecode even if the user keeps Python from it."""
    writing = {
        name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", f"import {names}"], env=writing, stderr=subprocess.DEVNULL
        )
        for names in USED
    ]
    for process in running:
        process.wait()


if __name__ == "__main__":
    main()
