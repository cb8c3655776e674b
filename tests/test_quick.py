"""A command that is called for one photo: what is imported to stay is not searched for rubbish."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
CODE = """
import gc, sys
from editproof.cli.quick import importing

try:
    with importing():
        assert not gc.isenabled()
        {inside}
except ZeroDivisionError:
    pass
print(gc.isenabled(), gc.get_freeze_count() > 1000)
"""
PROTECT = """
import gc
from editproof.cli.main import main
assert main(["protect", "none.jpg", "--out", "."]) == 2
print(gc.isenabled(), gc.get_freeze_count() > 50_000)
"""


def run(code: str) -> str:
    """What Python prints for some code."""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("inside", "frozen"), [("import xml.dom.minidom, decimal", True), ("1 / 0", False)])
def test_what_is_imported_is_not_searched_and_the_rest_is(inside: str, frozen: bool) -> None:
    assert run(CODE.format(inside=inside)) == f"True {frozen}\n"


def test_where_torch_is_there_already_nothing_is_done() -> None:
    code = CODE.replace("assert not", "assert").format(inside="import decimal")
    assert run(f"import sys; sys.modules['torch'] = sys\n{code}") == "True False\n"


def test_protecting_a_photo_imports_so() -> None:
    assert run(PROTECT) == "True True\n"
