"""The short run of the fuzz suite (`make fuzz` is the long one), and properties that Hypothesis looks for holes in."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editproof.errors import UserError
from editproof.parsing import parse_number, parse_settings
from editproof.photo import icc, png
from editproof.photo.exif import clean_exif, has_place, left_out, orientation
from editproof.photo.given import as_images
from editproof.photo.prose import reads_as_text
from editproof.photo.reading import open_photo
from editproof.photo.xmp import LONGEST, clean_xmp, is_marked, mark
from editproof.video.reading import is_clip, open_clip
from fuzz import seeds
from fuzz.trials import fault

FILES = 240  # of the short run; the long one begins where it ends
quick = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("first", range(0, FILES, 40))
def test_damaged_files_are_read_or_refused(first: int, tmp_path: Path) -> None:
    faults = {number: said for number in range(first, first + 40) if (said := fault(number, tmp_path))}
    assert not faults, "python tests/fuzz/run.py --number N tries one again"


def test_files_that_end_after_some_bytes_are_refused(tmp_path: Path) -> None:
    moving = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\2" + bytes(40)
    for name, data in [*seeds.all_seeds(), ("moving.webp", moving)]:
        for length in range(1, 48):
            path = tmp_path / name
            path.write_bytes(data[:length])
            with contextlib.suppress(UserError):
                (open_clip if is_clip(path) else open_photo)(path)


def test_a_number_is_always_the_same_file() -> None:
    assert [seeds.damaged(number) for number in range(20)] == [seeds.damaged(number) for number in range(20)]
    assert len({seeds.damaged(number)[1] for number in range(200)}) > 190
    assert len(seeds.photos()) > 55


@given(st.binary(max_size=600))
@quick
def test_exif_of_any_bytes(block: bytes) -> None:
    for data in (block, b"II*\0\x08\0\0\0" + block, b"MM\0*\0\0\0\x08" + block):
        cleaned = clean_exif(data, 10, 20)
        assert cleaned is None or clean_exif(cleaned, 10, 20) == cleaned
        assert 1 <= orientation(data) <= 8
        has_place(data)
        left_out(data)


@given(st.text(max_size=300), st.text(max_size=60))
@quick
def test_xmp_of_any_text(text: str, name: str) -> None:
    for packet in (text, f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{text}</rdf:RDF>'):
        cleaned = clean_xmp(packet, {("http://purl.org/dc/elements/1.1/", "title"): [text, name]})
        assert cleaned is None or (clean_xmp(cleaned) == cleaned and len(cleaned) <= LONGEST)
        assert is_marked(mark(cleaned))
        assert not is_marked(cleaned)


@given(st.binary(max_size=400), st.integers(0, 40))
@quick
def test_profiles_of_any_bytes(data: bytes, tags: int) -> None:
    header = bytearray(128)
    header[12:24], header[36:40] = b"mntrRGB XYZ ", b"acsp"
    whole = bytes(header) + tags.to_bytes(4, "big") + data
    profile = len(whole).to_bytes(4, "big") + whole[4:]
    for given_data in (data, profile, icc.make_profile((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)) + data):
        cleaned = icc.clean_profile(given_data)
        assert cleaned is None or icc.clean_profile(cleaned) == cleaned
        icc.transfer_code(given_data)


@given(st.binary(max_size=300))
@quick
def test_png_chunks_of_any_bytes(data: bytes) -> None:
    png.look(io.BytesIO(data))
    png.look(io.BytesIO(png.SIGNATURE + data))
    png.without_reserved_texts(io.BytesIO(png.SIGNATURE + data))


@given(st.binary(min_size=400, max_size=1200), st.integers(1, 80), st.sampled_from([" ", "\n", ", ", ". ", "-", "\t"]))
@quick
def test_bytes_written_as_text_do_not_read_as_text(data: bytes, width: int, between: str) -> None:
    text = np.random.default_rng(len(data)).bytes(len(data)).hex() if len(set(data)) < 60 else data.hex()
    assert not reads_as_text(between.join(text[i : i + width] for i in range(0, len(text), width)))


@given(
    st.lists(st.integers(0, 5), min_size=0, max_size=5), st.sampled_from(["uint8", "float32", "int64", "bool", "f2"])
)
@quick
def test_arrays_of_any_shape(shape: list[int], kind: str) -> None:
    try:
        images = as_images(np.zeros(shape, kind))
    except UserError:
        return
    assert images.ndim == 4 and images.shape[1] == 3 and images.dtype == torch.float32


@given(st.text(max_size=40))
@quick
def test_what_people_write(text: str) -> None:
    with contextlib.suppress(UserError):
        assert 0 < parse_number(text, "--eps", 1.0) <= 1
    for pair in (text, f"a={text}"):
        with contextlib.suppress(UserError):
            assert len(parse_settings([pair])) == 1
