"""Every command that README and docs show is one that there is, with options that there are.

Those in blocks named bash also run (test_readme.py).
"""

import ast
import functools
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import typer

from editproof.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED, INDENTED = r"```(?:bash|console)\n(.*?)```", r"(?:^    (?:python|editproof) .*\n)+"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
STARTS = r"(?:nice -n -?\d+ |NAME=\S+ )*"


def commands(page: Path) -> list[str]:
    """The commands of a page, lines that go on put together."""
    text = page.read_text()
    blocks = [*re.findall(FENCED, text, flags=re.DOTALL), *re.findall(INDENTED, text, flags=re.MULTILINE)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(rf"^{STARTS}", "", line.strip()) for line in lines if line.strip()]


def tool(*names: str) -> list[tuple[str, str]]:
    """(page, command) of all commands that begin with one of these names."""
    found = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page)]
    return [(page, line) for page, line in dict.fromkeys(found) if line.split()[0] in names]


@functools.cache
def command_line() -> click.Group:
    return typer.main.get_command(app)  # type: ignore[return-value]


@pytest.mark.parametrize(("page", "line"), tool("editproof"))
def test_editproof_takes_it(page: str, line: str) -> None:
    """Read as the program reads it, without running; values are checked as far as that goes without files."""
    name, *arguments = shlex.split(line, comments=True)[1:]
    root = command_line()
    if name.startswith("-"):
        assert name == "--verbose" or any(name in parameter.opts for parameter in root.params)
        name, *arguments = arguments or ["list"]
    command = root.get_command(click.Context(root), name)
    assert command is not None, name
    command.make_context(name, arguments, parent=root.make_context("editproof", ["list"], resilient_parsing=True))


@pytest.mark.parametrize(("page", "line"), tool("python"))
def test_python_has_it(page: str, line: str) -> None:
    """The script is there, and knows every option."""
    words = shlex.split(line, comments=True)
    if words[1] == "-c":
        compile(words[2], page, "exec")
        return
    if words[1] == "-m":
        assert words[2] in ("venv", "editproof") or (ROOT / "src" / f"{words[2].replace('.', '/')}.py").is_file()
        return
    script = next(word for word in words if word.endswith(".py"))
    used = {word.partition("=")[0] for word in words[words.index(script) :] if word.startswith("--")}
    tree = ast.parse((ROOT / script).read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert used <= texts, used - texts


@pytest.mark.parametrize(("page", "line"), tool("pip", "pipx"))
def test_what_pip_is_told_is_there(page: str, line: str) -> None:
    assert re.match(r"pipx? install ", line)
    for extras in re.findall(r"(?:editproof|\.)\[([\w,]+)\]", line):
        assert set(extras.split(",")) <= EXTRAS.keys()


def test_nothing_else_is_shown() -> None:
    """Commands of other programs are known by name; make's targets are there."""
    known = {
        "editproof",
        "python",
        "torchrun",
        "pip",
        "pipx",
        "make",
        "curl",
        "hf",
        "docker",
        "git",
        "cd",
        "tar",
        "kubectl",
    }
    shown = {line.split()[0] for page in PAGES for line in commands(page) if not line.startswith("#")}
    assert shown <= known, shown - known
    makefile = (ROOT / "Makefile").read_text()
    for _, line in tool("make"):
        for target in shlex.split(line, comments=True)[1:]:
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
