"""How many functions of one room call functions of another, while a command runs: `python benchmarks/crossings.py`.

A room is a package or a module that lies directly in editproof (photo, protection, pgd ...). Counted are pairs of
functions, caller and called, of two rooms, once each however often they call; calls that pass through other libraries
in between (a callback of the progress bar, say) are not.
"""

import contextlib
import io
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = str(Path(__file__).parents[1] / "src" / "editproof")
MOST = {"protect": 45, "bench": 160, "clip": 115}  # crossings
MOST_ROOMS = 10  # that protecting a photo passes


def room(file: str) -> str:
    """The package or module directly in editproof that a file belongs to; "" for other code."""
    if not file.startswith(SOURCE):
        return ""
    return Path(file).relative_to(SOURCE).parts[0].removesuffix(".py")


@contextlib.contextmanager
def crossings() -> Iterator[set[tuple[str, str, str, str]]]:
    """Collects (room, function, room called, function called) of all threads."""
    found: set[tuple[str, str, str, str]] = set()

    def called(frame: FrameType, event: str, argument: Any) -> None:
        before = frame.f_back
        if event != "call" or before is None or frame.f_code.co_name == "<module>":
            return
        here, there = room(before.f_code.co_filename), room(frame.f_code.co_filename)
        if here and there and here != there:
            found.add((here, before.f_code.co_qualname, there, frame.f_code.co_qualname))

    threading.setprofile(called)
    sys.setprofile(called)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def commands(folder: Path) -> dict[str, list[str]]:
    """The commands that are counted, on files made in `folder`."""
    from editproof.bench.demo import astronaut
    from editproof.photo import save_png

    photos = folder / "photos"
    photos.mkdir()
    photo = astronaut(256)[0][0]
    save_png(photos / "photo.png", photo)
    rows = ["--methods", "noise,photoguard-encoder", "--editors", "tiny-inpaint", "--counters", "none,jpeg:75"]
    found = {
        "protect": ["protect", str(photos / "photo.png"), "--out", str(folder / "protected")],
        "bench": ["bench", "--data", str(photos), "--prompt", "a portrait photo", *rows, "--preset", "fast",
                  "--edit-steps", "1", "--masks", "centre", "--workers", "1", "--out", str(folder / "bench")],
    }  # fmt: skip
    with contextlib.suppress(ImportError):
        import av
        import numpy as np

        with av.open(folder / "clip.mp4", "w") as clip:
            stream = clip.add_stream("libx264", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for frame in range(4):
                picture = np.full((64, 64, 3), 60 + 20 * frame, np.uint8)
                clip.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            clip.mux(stream.encode())
        found["clip"] = ["protect", str(folder / "clip.mp4"), "--out", str(folder / "clips")]
    return found


def count(run: Callable[[], Any]) -> tuple[int, set[str], Counter[tuple[str, str]]]:
    """Crossings, rooms, and crossings by pair of rooms, of what `run` does."""
    with crossings() as found, contextlib.redirect_stdout(io.StringIO()):
        run()
    pairs = Counter((here, there) for here, _, there, _ in found)
    return len(found), {name for pair in pairs for name in pair}, pairs


def main() -> None:
    """Print a line for each command, and which rooms call which."""
    from editproof.cli.main import main as command_line

    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in commands(Path(folder)).items():

            def run(arguments: list[str] = arguments) -> None:
                assert command_line(arguments) == 0, arguments

            crossed, rooms, pairs = count(run)
            print(f"{name}: {crossed} crossings (at most {MOST[name]}) between {len(rooms)} rooms: {sorted(rooms)}")
            for (here, there), number in pairs.most_common():
                print(f"    {here} -> {there}: {number}")


if __name__ == "__main__":
    main()
