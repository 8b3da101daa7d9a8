"""`make setup`: uv installs from where pip would; what an interrupted set-up left is found."""

import importlib.metadata
import importlib.util
from pathlib import Path

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("install", ROOT / ".ci/install.py")
assert spec and spec.loader
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)


def test_uv_is_told_what_pip_is_configured_to_do() -> None:
    configured = "\n".join([
        "global.index-url='https://a.example/simple'",
        "install.index-url='https://b.example/simple'",
        r"global.extra-index-url='\nhttps://c.example/simple\nfile:///opt/simple'",
        "global.find-links='/opt/wheels'",
        ":env:.find-links='~/wheels https://d.example/torch.html'",
        "global.cert='/etc/ssl/certs/ca.crt'",
        ":env:.disable-pip-version-check='1'",
    ])  # fmt: skip
    assert install.as_uv_says(configured) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INDEX_URL": "https://b.example/simple",
        "UV_EXTRA_INDEX_URL": "https://c.example/simple file:///opt/simple",
        "UV_FIND_LINKS": f"{Path.home()}/wheels,https://d.example/torch.html",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca.crt",
    }


def package(packages: Path, name: str) -> None:
    """Write a package as an installer leaves it."""
    (packages / name).mkdir()
    (packages / name / "__init__.py").write_text("of = 1\n")
    record = packages / f"{name}-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (record / "RECORD").write_text(
        f"{name}/__init__.py,sha256=x,7\n{name}/made_later.pyc,,\n{name}-1.0.dist-info/RECORD,,\n"
    )
    (packages / name / "made_later.pyc").touch()


def test_packages_that_are_there_in_part_are_forgotten_and_whole_ones_are_kept(
    tmp_path: Path,
) -> None:
    for name in ("whole", "cut_off", "missing", "unrecorded"):
        package(tmp_path, name)
    (tmp_path / "cut_off/__init__.py").write_text("of")
    (tmp_path / "missing/__init__.py").unlink()
    (tmp_path / "unrecorded-1.0.dist-info/RECORD").unlink()
    assert install.forget_damaged(tmp_path) == ["cut_off", "missing", "unrecorded"]
    assert [one.name for one in importlib.metadata.distributions(path=[str(tmp_path)])] == ["whole"]


def test_what_uv_is_pinned_to_stands_in_the_constraints() -> None:
    assert {"torch", "uv"} <= install.pins().keys()
