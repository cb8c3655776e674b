"""The package: its public names, its version, and a wheel that works outside the tree."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tiny

import editproof
from editproof.photo.reading import open_photo, save_png

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_public_names_exist_and_are_all_there_is() -> None:
    for name in editproof.__all__:
        assert getattr(editproof, name) is not None
    assert dir(editproof) == sorted(editproof.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        editproof.nothing  # noqa: B018


def test_public_protect_is_the_function_whatever_was_imported_before() -> None:
    import editproof.protection.apply
    import editproof.protection.files

    assert editproof.protect is editproof.protection.apply.protect
    assert editproof.protect_photos is editproof.protection.files.protect_photos


def test_modules_are_there_without_importing_them() -> None:
    code = "import editproof; editproof.methods.METHODS, editproof.budgets.Linf, editproof.immunizer.network.NestedUNet"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})


def test_versions_and_requirements() -> None:
    assert editproof.__version__ == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert PROJECT["requires-python"] == ">=3.11"
    assert "torch>=2.11" in PROJECT["dependencies"]
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_embedded_models_are_small_safetensors() -> None:
    assets = ROOT / "src" / "editproof" / "assets"
    weights = [path for path in assets.rglob("*") if path.stat().st_size > 1_000_000]
    assert weights
    assert {path.suffix for path in weights} == {".safetensors"}
    assert sum(path.stat().st_size for path in assets.rglob("*")) < 42 * 2**20


@pytest.mark.slow
def test_a_wheel_protects_a_photo_outside_the_tree(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    tree = tmp_path / "tree"  # a copy: setuptools leaves its work in the tree it builds
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, tree], check=True)
    (wheel,) = tmp_path.glob("editproof-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    save_png(tmp_path / "photo.png", tiny.pictures(1, 300, 200)[0])
    code = f"""
import sys, editproof
assert editproof.__file__.startswith({str(tmp_path)!r}), editproof.__file__
from editproof.cli.main import main
sys.exit(main(["protect", "photo.png", "--out", "out"]))"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert open_photo(tmp_path / "out" / "photo-protected.png").size == (300, 200)
    assert json.loads((tmp_path / "out" / "photo-protected.json").read_text())["linf_levels"] > 0
    fresh = tmp_path / "fresh"  # an environment of its own, which borrows the packages that editproof needs
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh], check=True)
    python = fresh / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    packages = next(fresh.rglob("site-packages"))
    borrowed = Path(importlib.metadata.distribution("torch").locate_file(""))
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = python.parent / "editproof"
    said = subprocess.run([command, "--version"], check=True, capture_output=True, text=True, env=environment)
    assert said.stdout.strip() == f"editproof {editproof.__version__}"
    subprocess.run([command, "protect", "photo.png", "--out", "again"], check=True, cwd=tmp_path, env=environment)
    name = "photo-protected.png"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    code = f"""
import gradio, tempfile
from pathlib import Path
from editproof.app import browser_page, page, texts
assets = Path(browser_page.__file__).parents[1] / "assets" / "page"
assert {{one.name for one in assets.iterdir()}} == {{"index.html", "page.css", "page.js", "work.js"}}
assert page.__file__.startswith({str(fresh)!r}), page.__file__
assert all(texts.catalog(language) for language in texts.LANGUAGES) and "editproofTab" in page.head()
assert page.build(Path(tempfile.mkdtemp())).blocks"""
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path, env=environment)


def test_the_extra_app_brings_all_that_the_page_offers() -> None:
    wanted, extras = {"app"}, PROJECT["optional-dependencies"]
    for line in extras["app"]:
        wanted |= set(line.partition("[")[2].partition("]")[0].split(",")) if line.startswith("editproof[") else set()
    assert {"app", "faces", "heic", "video"} <= wanted and wanted <= extras.keys()


def test_metadata_is_what_pip_will_tell(tmp_path: Path) -> None:
    """Made as a build makes it, in a copy, so that it is looked at whether the tree is installed or not."""
    (tmp_path / "src" / "editproof").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "src/editproof/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    code = "from setuptools.build_meta import prepare_metadata_for_build_wheel as make; make('.')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    (folder,) = tmp_path.glob("editproof-*.dist-info")
    metadata = importlib.metadata.PathDistribution(folder).metadata
    assert metadata["Name"] == "editproof" and metadata["Version"] == editproof.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert any(line.startswith("torch>=2.11") for line in metadata.get_all("Requires-Dist"))
