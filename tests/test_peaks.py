"""How much memory large pictures take, in bytes for each pixel: what docs/security.md says of 150 megapixels."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SIZE = (8000, 5000)  # pixels, width and height
CODE = """
import resource, sys
from pathlib import Path
from editproof.photo.masks import open_mask, read_mask
from editproof.photo.reading import open_photo
from editproof.serve.allocation import keep_pages

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

read_mask("small.png")
keep_pages()
before = peak()
if sys.argv[1] == "mask":
    read_mask("mask.png")
else:
    photo = open_photo("photo.jpg")
    for _ in range(3):
        mask = open_mask("mask.png", photo.size)
print((peak() - before) / (8000 * 5000))
"""


@pytest.mark.parametrize(("what", "most"), [("mask", 16), ("photo and mask", 26)])
def test_peak(what: str, most: float, tmp_path: Path) -> None:
    mask = Image.new("L", SIZE)
    mask.paste(255, (1000, 1000, 6000, 4000))
    mask.save(tmp_path / "mask.png")
    mask.resize((80, 50)).save(tmp_path / "small.png")
    Image.effect_noise((800, 500), 80).resize(SIZE).convert("RGB").save(tmp_path / "photo.jpg")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, what]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < most
