"""What deploys the service is linted (Dockerfiles, Compose, Kubernetes), and its options are the command's."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from editproof.cli.main import app

DEPLOY = Path(__file__).parents[1] / "deploy"
LINTERS = {
    "Dockerfile": ["hadolint"],
    "Dockerfile.cuda": ["hadolint"],
    "compose.yaml": ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"],
    "kubernetes.yaml": ["kubernetes-validate", "--strict"],
}


def container() -> dict[str, Any]:
    deployment = next(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    return deployment["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", LINTERS)
def test_linters_find_nothing(name: str) -> None:
    tool, *arguments = LINTERS[name]
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip(f"{tool} is not installed (extra dev)")
    done = subprocess.run([str(program), *arguments, str(DEPLOY / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert name.startswith("Docker") is (not done.stdout + done.stderr)  # hadolint says nothing if all is well


def test_the_options_are_the_commands() -> None:
    command = typer.main.get_command(app)
    known = {name for p in command.commands["serve"].params for name in p.opts}  # type: ignore[attr-defined]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["editproof"]["command"]
    docker = [line for line in (DEPLOY / "Dockerfile.cuda").read_text().splitlines() if line.startswith("CMD")][-1]
    asked = [*compose, *container()["containers"][0]["args"], *docker.replace('"', " ").replace(",", " ").split()]
    options = {word.partition("=")[0] for word in asked if word.startswith("--")}
    assert len(options) >= 6
    assert options <= known


def test_pods_end_later_than_what_they_accepted() -> None:
    arguments = dict(word.lstrip("-").partition("=")[::2] for word in container()["containers"][0]["args"][1:])
    assert container()["terminationGracePeriodSeconds"] >= 60 + float(arguments["drain-wait"]) + 30
