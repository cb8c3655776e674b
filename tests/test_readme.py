"""The commands and Python of README and four pages of docs run (with fewer steps)."""

import re
import shlex
from pathlib import Path

import pytest
import tiny
from clip_maker import make
from PIL import Image

from editproof.cli.main import main
from editproof.editors import pipeline
from editproof.editors.kontext import KontextEditor
from editproof.methods import METHODS
from editproof.photo.reading import save_png

ROOT = Path(__file__).parents[1]
README = "".join(
    (ROOT / name).read_text() for name in ("README.md", "docs/commands.md", "docs/photos.md", "docs/video.md")
)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
SHELL = re.findall(r"```bash\n(.*?)```", README + (ROOT / "docs" / "in-context.md").read_text(), flags=re.DOTALL)
COMMANDS = list(dict.fromkeys(line for block in SHELL for line in block.splitlines()))
NOT_HERE = {  # commands that need a network, a model or data that tests do not have -> what their one line says
    "--editor sd-inpaint": "hf download stable-diffusion-v1-5/stable-diffusion-inpainting",
    "data download": "DiffVaxDataset",
    "data check": "data",
    "editproof train": "data",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    picture = tiny.pictures(1, 320, 300)[0]
    save_png("photo.png", picture)
    for name in ("photo.jpg", "second.jpg"):
        Image.open("photo.png").save(name)
    Path("photos/summer").mkdir(parents=True)
    Image.open("photo.png").save("photos/summer/photo.jpg")
    mask = Image.new("L", (300, 320), 255)
    mask.paste(0, (80, 80, 220, 260))
    mask.save("mask.png")
    make(Path("clip.mp4"), 3)
    mask.resize((64, 48)).save("clip-mask.png")
    Path("configs").symlink_to(Path(__file__).parents[1] / "configs")
    return tmp_path


def test_commands(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for method in METHODS.values():
        if method.paper:
            monkeypatch.setitem(method.fast, "steps", 1)
    for editor in (pipeline.Editor, KontextEditor):
        monkeypatch.setattr(editor, "steps", 3)
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "editproof"
        said = [words for part, words in NOT_HERE.items() if part in command]
        code = main(arguments)
        output = capsys.readouterr()
        assert (code != 0) == bool(said), f"{command}: {output.err}"
        for words in said:
            assert words in output.out + output.err, command
            assert "option" not in output.err, command
    assert Path("protected/photo-protected.json").is_file()
    assert Path("outputs/demo/astronaut_methods.png").is_file()
    assert Path("outputs/mine/photo_comparison.png").is_file()


def test_python(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pipeline.Editor, "steps", 3)
    code = "\n".join(block for language, block in BLOCKS if language == "python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("tensor([")
    assert Path("protected.png").is_file()


def test_make_targets_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
