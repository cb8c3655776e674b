"""Bytes in, bytes out: the very bytes and reports of `editproof protect`, for every format, mask and fault."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image

from editproof.budgets import Linf
from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet, save_immunizer
from editproof.photo.formats import FORMATS
from editproof.photo.reading import save_png
from editproof.protection import in_memory
from editproof.protection.files import protect_photos
from editproof.protection.in_memory import Content, Protected, protect_content, protect_contents
from editproof.protection.settings import ProtectSettings, load_task
from editproof.protection.task import Task

BAD = {
    "empty.jpg": b"",
    "text.png": b"no picture",
    "cut.png": None,  # the first half of a picture
    "small.png": None,  # 8 x 8 pixels
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random network, so that the tests are quick."""
    torch.manual_seed(0)
    network = NestedUNet(in_channels=4, depths=(8, 8, 8), batch_norm="photo")
    network.trained_eps, network.size = 8 / 255, 64
    folder = tmp_path_factory.mktemp("weights")
    save_immunizer(network, folder)
    return str(folder)


def picture(height: int = 120, width: int = 90, format: str = "PNG", mode: str = "RGB", seed: int = 0) -> bytes:
    image = Image.fromarray((tiny.pictures(seed + 1, height, width)[seed].permute(1, 2, 0) * 255).byte().numpy())
    file = io.BytesIO()
    image.convert(mode).save(file, format=format)
    return file.getvalue()


def task_for(weights: str, **more: Any) -> Task:
    return load_task(ProtectSettings(knobs={"weights": weights}, device="cpu", **more))


def without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    """A report as a file holds it, but for what differs from run to run and for the request, which is the folder's."""
    return {name: value for name, value in json.loads(json.dumps(report)).items() if name not in ("seconds", "request")}


@pytest.mark.parametrize("format", FORMATS)
def test_the_bytes_are_those_of_the_command(format: str, weights: str, tmp_path: Path) -> None:
    for i, source in enumerate(("JPEG", "PNG", "WEBP", "TIFF")):
        path = tmp_path / f"{i}.img"
        path.write_bytes(picture(format=source, seed=i))
        (report,) = protect_photos(
            [path], tmp_path / "out", format=format, knobs={"weights": weights}, device="cpu", overwrite=True
        )
        made = protect_content(Content(path.read_bytes(), path.name), task_for(weights, format=format))
        assert made.data == (tmp_path / "out" / report["protected"]).read_bytes()
        assert without_seconds(made.report) == without_seconds(report)


def test_a_mask_may_be_bytes_too(weights: str, tmp_path: Path) -> None:
    mask = Image.new("L", (90, 120), 0)
    mask.paste(255, (0, 0, 45, 120))
    mask.save(tmp_path / "mask.png")
    (tmp_path / "a.png").write_bytes(picture())
    (report,) = protect_photos(
        [tmp_path / "a.png"], tmp_path / "out", mask=tmp_path / "mask.png", knobs={"weights": weights}, device="cpu"
    )
    asked = ProtectSettings(knobs={"weights": weights}, device="cpu", mask="mask.png")
    made = protect_content(
        Content(picture(), "a.png"), load_task(asked, mask_data=(tmp_path / "mask.png").read_bytes())
    )
    assert made.data == (tmp_path / "out" / report["protected"]).read_bytes()
    assert without_seconds(made.report) == without_seconds(report)
    assert report["protected_share"] == 0.5


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_in_the_words_of_the_command(name: str, weights: str, tmp_path: Path) -> None:
    data = BAD[name]
    if data is None:
        data = picture()[: 2**9] if name == "cut.png" else picture(8, 8)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as expected:
        list(protect_photos([tmp_path / name], tmp_path / "out", knobs={"weights": weights}))
    with pytest.raises(UserError) as error:
        protect_content(Content(data, name), task_for(weights))
    assert str(error.value) == str(expected.value).replace(str(tmp_path / name), name)


def test_photos_of_all_kinds_together_keep_their_order_and_faults(weights: str) -> None:
    plain, other = (
        task_for(weights),
        load_task(ProtectSettings(knobs={"weights": weights}, budget=Linf(4 / 255), device="cpu")),
    )
    asked = [
        (Content(picture(seed=0), "a.png"), plain),
        (Content(b"nothing", "b.png"), plain),
        (Content(picture(90, 120, seed=1), "c.png"), plain),
        (Content(picture(seed=2), "d.png"), plain),
        (Content(picture(seed=2), "e.png"), other),
    ]
    outcomes = protect_contents(asked)
    assert isinstance(outcomes[1], UserError)
    good = [outcome for outcome in outcomes if isinstance(outcome, Protected)]
    assert [outcome.report["photo"] for outcome in good] == ["a.png", "c.png", "d.png", "e.png"]
    assert [outcome.report["linf_levels"] <= most for outcome, most in zip(good, (8, 8, 8, 4), strict=True)] == [
        True
    ] * 4
    alone = protect_content(*asked[3])
    assert alone.report["psnr_db"] == pytest.approx(good[2].report["psnr_db"], abs=0.01)


def test_where_a_group_fails_its_members_are_tried_alone(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def choosy(batch: list, task: Task, callback: Any) -> Any:
        if any(ready.job.photo.name == "b.png" for ready in batch):
            raise UserError("no face in b.png")
        return original(batch, task, callback)

    original = in_memory.perturb
    monkeypatch.setattr(in_memory, "perturb", choosy)
    task = task_for(weights)
    outcomes = protect_contents([(Content(picture(seed=i), name), task) for i, name in enumerate(("a.png", "b.png"))])
    assert isinstance(outcomes[0], Protected)
    assert str(outcomes[1]) == "no face in b.png"


def test_a_protected_photo_is_known_by_its_mark(weights: str, tmp_path: Path) -> None:
    task = task_for(weights)
    once = protect_content(Content(picture(), "a.png"), task)
    with pytest.raises(UserError, match="protected already"):
        protect_content(Content(once.data, "again.png"), task)
    save_png(tmp_path / "plain.png", tiny.pictures(1, 60, 60)[0])
    assert protect_content(Content(once.data, "again.png"), task_for(weights, force=True)).data != once.data


def test_the_number_of_threads_changes_no_byte() -> None:
    """A service's workers have fewer than the command; both use the embedded network."""
    task, threads = load_task(ProtectSettings(device="cpu")), torch.get_num_threads()
    made = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            made.append(protect_content(Content(picture(300, 400), "a.png"), task).data)
    finally:
        torch.set_num_threads(threads)
    assert made[0] == made[1]
