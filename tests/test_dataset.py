"""Training data: what is read, what `data check` says of every fault, and fetching it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from editproof.cli.train import app
from editproof.errors import UserError
from editproof.immunizer.dataset import PhotoPrompts, check_dataset, download_dataset, read_split


def picture(path: Path, number: int, size: tuple[int, int] = (40, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def mask(path: Path, white: float = 0.5, size: tuple[int, int] = (40, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), dtype=np.uint8)
    values[:, : round(white * size[0])] = 255
    Image.fromarray(values).save(path)


def dataset(folder: Path, train: int = 3, validation: int = 1) -> Path:
    """A folder in DiffVax's layout with two prompts a photo."""
    for split, count in {"train": train, "validation": validation}.items():
        rows = []
        for i in range(count):
            picture(folder / split / "images" / f"a{i}.png", 10 * len(split) + i)
            mask(folder / split / "masks" / f"mask_a{i}.png")
            rows.append(
                {"file_name": f"images/a{i}.png", "prompts": [f"a {split} photo {i}", "a plain red background"]}
            )
        write(folder, split, rows)
    return folder


def rows(folder: Path, split: str = "train") -> list[dict]:
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text().splitlines()]


def write(folder: Path, split: str, rows: list) -> None:
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_row(**values: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        first, *others = rows(folder)
        write(folder, "train", [{**first, **values}, *others])

    return apply


def repeat_row(folder: Path) -> None:
    write(folder, "train", [*rows(folder), rows(folder)[0]])


def repeat_row_bare(folder: Path) -> None:
    write(folder, "train", [*rows(folder), {**rows(folder)[0], "file_name": "a0.png"}])


def copy_to_validation(folder: Path) -> None:
    (folder / "validation/images/a0.png").write_bytes((folder / "train/images/a1.png").read_bytes())


def cut_off(folder: Path) -> None:
    file = folder / "train/images/a0.png"
    file.write_bytes(file.read_bytes()[:900])


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {  # what is done, where it is reported, with which words
    "photo missing": (lambda f: (f / "train/images/a0.png").unlink(), "train/images/a0.png", "is missing"),
    "mask missing": (lambda f: (f / "train/masks/mask_a0.png").unlink(), "train/masks/mask_a0.png", "is missing"),
    "photo cut off": (cut_off, "train/images/a0.png", "damaged or cut off"),
    "photo not a picture": (
        lambda f: (f / "train/images/a0.png").write_text("hm"),
        "train/images/a0.png",
        "not a pict",
    ),
    "photo empty": (lambda f: (f / "train/images/a0.png").write_bytes(b""), "train/images/a0.png", "0 bytes"),
    "photo too small": (lambda f: picture(f / "train/images/a0.png", 0, (8, 8)), "train/images/a0.png", "8 x 8 pixels"),
    "mask of another shape": (lambda f: mask(f / "train/masks/mask_a0.png", 0.5, (32, 32)), "a0.png", "aspect ratio"),
    "mask all white": (lambda f: mask(f / "train/masks/mask_a0.png", 1), "train/images/a0.png", "nothing to protect"),
    "mask all black": (lambda f: mask(f / "train/masks/mask_a0.png", 0), "train/images/a0.png", "nothing to edit"),
    "no prompts": (change_row(prompts=[]), "train/metadata.jsonl line 1", 'no "prompts"'),
    "prompts not a list": (change_row(prompts="a cat"), "train/metadata.jsonl line 1", 'no "prompts"'),
    "empty prompt": (change_row(prompts=["a cat", " "]), "train/metadata.jsonl line 1", 'no "prompts"'),
    "file name not a text": (change_row(file_name=3), "train/metadata.jsonl line 1", "file_name"),
    "bare name missing": (change_row(file_name="b.png"), "train/images/b.png", "is missing"),
    "listed twice, once bare": (repeat_row_bare, "train/metadata.jsonl line 4", "a0.png is listed in line 1 already"),
    "file outside": (change_row(file_name="../../secret.png"), "train/metadata.jsonl line 1", "inside the folder"),
    "mask outside": (change_row(mask="/etc/passwd"), "train/metadata.jsonl line 1", "inside the folder"),
    "listed twice": (repeat_row, "train/metadata.jsonl line 4", "line 1 already"),
    "not listed": (lambda f: picture(f / "train/images/b.png", 99), "train/images/b.png", "is not listed"),
    "in both splits": (copy_to_validation, "validation/images/a0.png", "same picture as train/images/a1.png"),
    "not JSON": (lambda f: (f / "train/metadata.jsonl").write_text("{]\n"), "train/metadata.jsonl line 1", "JSON"),
    "not text": (lambda f: (f / "train/metadata.jsonl").write_bytes(b"\xff\xfe"), "metadata.jsonl", "cannot be read"),
    "no list": (lambda f: (f / "train/metadata.jsonl").unlink(), "train/metadata.jsonl", "is missing"),
    "empty list": (lambda f: (f / "train/metadata.jsonl").write_text("\n"), "train/metadata.jsonl", "lists no photo"),
}


def test_a_good_folder_is_fine(tmp_path: Path) -> None:
    assert check_dataset(dataset(tmp_path)) == ({"train": 3, "validation": 1}, [])
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert result.exit_code == 0
    assert "3 photos in train, 1 photos in validation" in result.stdout


def test_a_bare_file_name_is_one_in_images(tmp_path: Path) -> None:
    expected = read_split(dataset(tmp_path), "train")
    write(tmp_path, "train", [{**row, "file_name": Path(row["file_name"]).name} for row in rows(tmp_path)])
    assert read_split(tmp_path, "train") == expected
    assert check_dataset(tmp_path) == ({"train": 3, "validation": 1}, [])


def test_photos_and_masks_in_folders_of_other_names(tmp_path: Path) -> None:
    """The authors look for a file_name's last part in images_subdir and for mask_<name>.png in masks_subdir."""
    dataset(tmp_path)
    for i in range(3):
        picture(tmp_path / "cropped" / f"a{i}.png", i)
        mask(tmp_path / "train/sam" / f"mask_a{i}.png")
    names = [f"a{i}.png" for i in range(3)]
    entries = read_split(tmp_path, "train", "cropped", "train/sam")
    assert [entry.image for entry in entries] == [tmp_path / "cropped" / name for name in names]
    assert [entry.mask for entry in entries] == [tmp_path / "train/sam" / f"mask_{name}" for name in names]
    assert read_split(tmp_path, "train", "train/images", "train/masks") == read_split(tmp_path, "train")
    (tmp_path / "cropped/a2.png").unlink()
    with pytest.raises(UserError, match=r"/cropped/a2\.png' is missing"):
        read_split(tmp_path, "train", "cropped")
    for subdirs in (("nowhere", None), (None, "../masks"), ("/", None)):
        with pytest.raises(UserError, match=r"^(images|masks)_subdir: '.*'; allowed: a folder inside"):
            read_split(tmp_path, "train", *subdirs)


@pytest.mark.parametrize("fault", FAULTS)
def test_check_finds(tmp_path: Path, fault: str) -> None:
    break_it, where, what = FAULTS[fault]
    break_it(dataset(tmp_path))
    _, problems = check_dataset(tmp_path)
    assert [p for p in problems if where in p.where and what in p.what], problems
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path)], env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert where in result.stdout


def test_check_finds_all_faults_at_once(tmp_path: Path) -> None:
    dataset(tmp_path)
    for name in ("mask all white", "empty prompt", "not listed", "in both splits"):
        FAULTS[name][0](tmp_path)
    (tmp_path / "train/masks/mask_a2.png").unlink()
    assert len(check_dataset(tmp_path)[1]) >= 4


def test_samples_are_photos_times_prompts(tmp_path: Path) -> None:
    entries = read_split(dataset(tmp_path), "train")
    samples = PhotoPrompts(entries, 16)
    assert [samples[i][2] for i in range(len(samples))] == [prompt for entry in entries for prompt in entry.prompts]
    images, hole, _ = samples[2]
    assert images.shape == (3, 16, 16)
    assert hole.shape == (1, 16, 16)
    assert set(hole.unique().tolist()) == {0, 1}
    # 40x32 with its left half white: in the middle square, pixels 4..36, the left half is white
    assert torch.equal(hole[0], (torch.arange(16) < 8).float().expand(16, 16))
    torch.testing.assert_close(images * 255, (images * 255).round(), rtol=0, atol=1e-4)


def test_reading_stops_at_the_first_problem(tmp_path: Path) -> None:
    (dataset(tmp_path) / "train/masks/mask_a1.png").unlink()
    with pytest.raises(UserError, match=r"mask_a1\.png' is missing"):
        read_split(tmp_path, "train")
    with pytest.raises(UserError, match="does not exist"):
        read_split(tmp_path / "nowhere", "train")


def test_download_without_network_is_one_line(tmp_path: Path) -> None:
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(UserError, match="the hub cannot be reached") as error:
        download_dataset(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_download_fetches_the_authors_dataset_into_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def snapshot(repo_id: str, *, repo_type: str, local_dir: Path, allow_patterns: list[str]) -> None:
        asked.update(repo_id=repo_id, repo_type=repo_type, allow_patterns=allow_patterns)
        dataset(Path(local_dir))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    result = CliRunner().invoke(app, ["data", "download", "--data-dir", str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert asked["repo_id"] == "ozdentarikcan/DiffVaxDataset"
    assert asked["repo_type"] == "dataset"
    assert check_dataset(tmp_path / "data")[1] == []
