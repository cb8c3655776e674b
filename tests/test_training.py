"""Training: the loss, what it learns, resuming after kill -9, NaN, and every refused setting."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from killed import killed_at
from test_dataset import dataset
from typer.testing import CliRunner

from editproof.cli.train import app
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.files import held
from editproof.immunizer.config import LIMITS, NetworkConfig, TrainConfig, make_config, read_config
from editproof.immunizer.dataset import PhotoPrompts, read_split
from editproof.immunizer.network import NestedUNet, load_immunizer, perturb
from editproof.immunizer.ranks import Ranks, joined
from editproof.immunizer.training import _batches, losses, train, validate
from editproof.methods import METHODS

ROOT = Path(__file__).parents[1]
EMBEDDED_EDITOR = ROOT / "src" / "editproof" / "assets" / "tiny-inpaint" / "model_index.json"
SMALL = {"depths": [4, 8, 16]}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The networks here are too small for more, and the same bits need the same number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training photos of two prompts, two validation photos."""
    return dataset(tmp_path_factory.mktemp("data"), 4, 2)


@pytest.fixture
def settings(tiny_folder: Callable) -> dict[str, Any]:
    """Three batches an epoch, checkpoints that fall within epochs."""
    return {
        "iter_num": 6,
        "learning_rate": 1e-3,
        "batch_size": 3,
        "attack_model_link": str(tiny_folder("sd-inpaint")),
        "network": SMALL,
        "steps": 2,
        "checkpoint_every": 2,
        "validate_every": 3,
        "workers": 0,
    }


def log(folder: Path) -> list[dict[str, float]]:
    """The log without what differs between two runs."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def same(first: object, second: object) -> bool:
    """Bit for bit, through dicts and lists."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and first.keys() == second.keys() and all(same(first[x], second[x]) for x in first)
        )
    if isinstance(first, list):
        return isinstance(second, list) and len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_losses_are_diffvax_s(tiny_editor: Callable) -> None:
    """L1 in [-1,1], summed over channels, over the area of each region; written out for one photo."""
    editor, config = tiny_editor("sd-inpaint"), make_config({"steps": 2, "alpha": 3, "network": SMALL})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NestedUNet(depths=(4, 8, 16), batch_norm="photo")
    images, mask = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 1, 32, 32)
    mask[0, :, :10] = 1
    mask[1, :, :, :20] = 1
    parts = losses(
        network, editor, images, mask, ["a", "b"], config, [torch.Generator().manual_seed(i) for i in (4, 5)]
    )
    for i, prompt in enumerate("ab"):
        image, hole = images[i : i + 1], mask[i : i + 1]
        protected = (image + perturb(network, image, hole)).clamp(0, 1)
        generator = [torch.Generator().manual_seed(4 + i)]
        edited = editor.sample(protected, prompt, mask=hole, steps=2, guidance=7.5, eta=0, generator=generator)
        inside, outside = hole[0, 0].bool(), ~hole[0, 0].bool()
        edit = (2 * edited - 1)[0, :, inside].abs().sum() / inside.sum()
        perturbation = 3 * (2 * protected - 2 * image)[0, :, outside].abs().sum() / outside.sum()
        torch.testing.assert_close(parts[0][i], edit, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(parts[1][i], perturbation, rtol=1e-4, atol=1e-5)


def scores(config: TrainConfig, editor: Editor, data: Path, output: Path, size: int) -> tuple[float, float]:
    """The loss over all training samples, with the same noise, before and after training."""
    samples = PhotoPrompts(read_split(data, "train"), size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        start = NestedUNet(**asdict(config.network))
    before = validate(start, editor, samples, config)
    trained = load_immunizer(train(config, data, output, device="cpu"))
    assert [line["step"] for line in log(output) if "loss" in line] == list(range(1, 21))
    return before, validate(trained, editor, samples, config)


@pytest.mark.parametrize("change", [{}, {"eps": "32/255"}, {"network": {**SMALL, "in_channels": 4}}], ids=str)
def test_twenty_steps_lower_the_loss(
    data: Path, settings: dict[str, Any], tiny_editor: Callable, tmp_path: Path, change: dict[str, Any]
) -> None:
    config = make_config({**settings, "iter_num": 10, "batch_size": 4, "validate_every": 100, **change})
    before, after = scores(config, tiny_editor("sd-inpaint"), data, tmp_path, 32)
    assert after < before - 0.01, (before, after)


@pytest.mark.parametrize("in_channels", [3, 4])
@pytest.mark.parametrize("eps", [None, 32 / 255])
def test_the_edit_alone_is_driven_to_grey(
    data: Path, tiny_editor: Callable, in_channels: int, eps: float | None
) -> None:
    """Gradients go through the editor: 20 steps with fixed noise lower the edit's loss when it is the only one."""
    config = make_config({"steps": 2, "eps": eps, "network": {**SMALL, "in_channels": in_channels}})
    items = PhotoPrompts(read_split(data, "train"), 32)
    images, mask = (torch.stack([items[i][part] for i in range(0, 8, 2)]) for part in (0, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NestedUNet(**asdict(config.network))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    values = []
    for _ in range(21):
        generators = [torch.Generator().manual_seed(i) for i in range(4)]
        edit, _ = losses(network, tiny_editor("sd-inpaint"), images, mask, [""] * 4, config, generators)
        optimizer.zero_grad()
        edit.mean().backward()
        optimizer.step()
        values.append(edit.mean().item())
    assert values[-1] < values[0] - 0.01, values


@pytest.mark.skipif(not EMBEDDED_EDITOR.exists(), reason="the embedded editor is not here yet")
def test_twenty_steps_lower_the_loss_against_the_embedded_editor(
    data: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    values = {"attack_model_link": "tiny-inpaint", "resolution": 64, "steps": 4, "iter_num": 10, "batch_size": 4}
    config = make_config({**settings, **values, "validate_every": 100})
    before, after = scores(config, load_editor("tiny-inpaint", device="cpu"), data, tmp_path, 64)
    assert after < before - 0.01, (before, after)


def test_weights_serve_the_method(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    folder = train(make_config({**settings, "iter_num": 1, "eps": "8/255"}), data, tmp_path, device="cpu")
    images = PhotoPrompts(read_split(data, "train"), 48)[0][0][None]
    protected = METHODS["diffvax"](None, images, weights=str(folder))
    assert 0 < (protected - images).abs().max() <= 8 / 255 + 1e-6
    network = load_immunizer(folder)
    assert (network.trained_eps, network.size) == (8 / 255, load_editor(settings["attack_model_link"]).size)


def test_kill_and_resume_gives_the_same_bits(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """kill -9 in the middle of an epoch, behind a checkpoint; weights, optimizer, generator and log as if unbroken."""
    values = {**settings, "network": {**SMALL, "batch_norm": "stored"}}  # stored statistics are one more thing to keep
    (tmp_path / "train.yml").write_text(yaml.safe_dump(values))
    folders = {"unbroken": tmp_path / "unbroken", "killed": tmp_path / "killed"}
    arguments = ["train", "--device", "cpu", "--config", str(tmp_path / "train.yml"), "--data-dir", str(data)]
    killed_at(
        "editproof.immunizer.training:_Log.write", 6, "from editproof.cli.train import app; app()",
        [*arguments, "--output-dir", str(folders["killed"])], tmp_path,
    )  # fmt: skip
    stopped = torch.load(folders["killed"] / "checkpoint.pt", weights_only=True)
    assert 4 <= stopped["step"] < 18

    for folder in folders.values():
        train(make_config(values), data, folder, device="cpu")
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in folders.values()]
    assert states[0]["step"] == 18
    assert not same(stopped["network"], states[0]["network"])
    ends = [{name: state[name] for name in ("network", "optimizer", "random", "epoch", "step")} for state in states]
    assert same(*ends)
    assert log(folders["unbroken"]) == log(folders["killed"])
    assert same(*(load_immunizer(folder / "immunizer").state_dict() for folder in folders.values()))
    assert not list(tmp_path.glob("**/*.tmp"))


def test_nan_stops_with_the_last_good_checkpoint(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "train.yml").write_text(yaml.safe_dump({**settings, "learning_rate": 1e30, "checkpoint_every": 1}))
    arguments = ["train", "--config", str(tmp_path / "train.yml"), "--data-dir", str(data), "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--output-dir", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "not finite" in result.stderr
    checkpoint = torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)
    assert f"hold step {checkpoint['step']}" in result.stderr.replace("\n", " ")
    assert all(value.isfinite().all() for value in checkpoint["network"].values())
    assert all(value.isfinite().all() for value in load_immunizer(tmp_path / "out/immunizer").state_dict().values())


def test_image_index_list_chooses_photos(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    config = make_config({**settings, "iter_num": 1, "train_all": False, "image_index_list": [2], "batch_size": 1})
    train(config, data, tmp_path / "one", device="cpu")
    assert len([line for line in log(tmp_path / "one") if "loss" in line]) == 2  # one photo, two prompts
    with pytest.raises(UserError, match="image_index_list: 4; allowed: 0 to 3"):
        train(replace(config, image_index_list=(0, 4)), data, tmp_path / "none", device="cpu")
    assert not (tmp_path / "none").exists()


def test_without_validation_photos(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", 1, 1)
    (folder / "validation").rename(tmp_path / "away")
    train(make_config({**settings, "iter_num": 1}), folder, tmp_path / "out", device="cpu")
    assert all("loss" in line for line in log(tmp_path / "out"))


def test_tensorboard_is_told_what_the_log_is(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="pip install 'editproof[tensorboard]'")
    from tensorboardX.proto.event_pb2 import Event

    train(make_config({**settings, "iter_num": 1}), data, tmp_path, "cpu", tensorboard=True)
    told = []
    for file in (tmp_path / "tensorboard").iterdir():
        content = file.read_bytes()
        while content:  # records: length, its checksum, an event, its checksum
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            told += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            content = content[16 + length :]
    lines = log(tmp_path)
    expected = {(line["step"], f"training/{name}") for line in lines for name in line if name != "step"}
    assert expected < {(step, tag) for step, tag, _ in told}
    losses = {step: value for step, tag, value in told if tag == "training/loss"}
    assert losses == {line["step"]: pytest.approx(line["loss"], rel=1e-6) for line in lines if "loss" in line}


def test_tensorboard_that_is_missing(
    data: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"pip install 'editproof\[tensorboard\]'"):
        train(make_config({**settings, "iter_num": 1}), data, tmp_path, "cpu", tensorboard=True)


def test_a_checkpoint_belongs_to_its_settings_and_data(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    config = make_config({**settings, "iter_num": 1})
    train(config, data, tmp_path / "out", device="cpu")
    before = (tmp_path / "out/checkpoint.pt").read_bytes()
    refused = {
        "resume: true": (replace(config, resume=False), data),
        "alpha: 5.0": (replace(config, alpha=5.0), data),
        "other photos": (config, dataset(tmp_path / "other", 3, 1)),
    }
    for words, (other, folder) in refused.items():
        with pytest.raises(UserError, match=words):
            train(other, folder, tmp_path / "out", device="cpu")
    assert (tmp_path / "out/checkpoint.pt").read_bytes() == before
    train(replace(config, iter_num=2), data, tmp_path / "out", device="cpu")  # more epochs are no other training
    assert max(line["step"] for line in log(tmp_path / "out")) == 6
    (tmp_path / "out/checkpoint.pt").write_bytes(before[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        train(config, data, tmp_path / "out", device="cpu")


EDITOR_FAULTS = {
    "no-such-editor": {"attack_model_link": "no-such-editor"},
    "a multiple of 8": {"resolution": 36},
    "resolution: 16; allowed for 5 network.depths: more than 16": {
        "resolution": 16,
        "network": {"depths": [4, 4, 4, 4, 4]},
    },
}


@pytest.mark.parametrize("words", EDITOR_FAULTS)
def test_editors_that_cannot_serve(data: Path, settings: dict[str, Any], tmp_path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words):
        train(make_config({**settings, **EDITOR_FAULTS[words]}), data, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_one_training_at_a_time_and_over_nothing_else(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    config, out = make_config({**settings, "iter_num": 1}), tmp_path / "out"
    with held(out / ".lock"), pytest.raises(UserError, match="another training is writing to"):
        train(config, data, out, device="cpu")
    for name in ("log.jsonl", "immunizer/model.safetensors"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("somebody's own")
        with pytest.raises(UserError, match=r"is of no training in this folder; allowed: another"):
            train(config, data, out, device="cpu")
        assert (out / name).read_text() == "somebody's own" and not (out / "checkpoint.pt").exists()
        (out / name).unlink()
    (out / "log.jsonl").touch()  # a run that was killed before its first checkpoint
    train(config, data, out, device="cpu")
    assert not (out / ".lock").exists()


@pytest.mark.parametrize("below", ["", "immunizer"])
def test_folders_that_cannot_be_written_to_are_told_before_any_work(
    below: str, data: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out/immunizer").mkdir(parents=True)
    closed = tmp_path / "out" / below
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)  # root may write everywhere
    with pytest.raises(UserError, match=f"output folder '{closed}' cannot be written to; allowed"):
        train(make_config(settings), data, tmp_path / "out", device="cpu")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "immunizer"]


def test_editors_without_masks_are_refused(
    data: Path, settings: dict[str, Any], tiny_folder: Callable, tmp_path: Path
) -> None:
    link = str(tiny_folder("instruct-pix2pix"))
    with pytest.raises(UserError, match="takes no mask"):
        train(make_config({**settings, "attack_model_link": link}), data, tmp_path / "out", device="cpu")


CONFIG_FAULTS: dict[str, tuple[str, str]] = {  # YAML: words of the one line
    "itre_num: 3": "unknown setting 'itre_num'; allowed: iter_num, learning_rate",
    "network: {width: 3}": "unknown setting 'network.width'; allowed: depths, in_channels, batch_norm",
    "network: 3": "network: 3; allowed: settings named depths",
    "iter_num: 0": "iter_num: 0; allowed: a whole number of at least 1",
    "iter_num: 1.5": "iter_num: 1.5; allowed: a whole number",
    "iter_num: true": "iter_num: True; allowed: a whole number",
    "iter_num: many": "iter_num: 'many'; allowed: a whole number",
    "iter_num:": "iter_num: None; allowed: a whole number",
    "learning_rate: 0": "learning_rate: 0; allowed: a number",
    "learning_rate: .nan": "learning_rate: nan; allowed: a number",
    "alpha: -1": "alpha: -1; allowed: a number",
    "eps: 8/0": "eps: '8/0'; allowed: a number, also written 8/255, from 0 to 1",
    "eps: 8": "eps: 8; allowed: a number",
    "train_all: 1": "train_all: 1; allowed: true or false",
    "train_all: false": "image_index_list is empty",
    "image_index_list: 3": "image_index_list: 3; allowed: a list of whole numbers",
    "image_index_list: [a]": "image_index_list: 'a'; allowed: a whole number",
    "network: {depths: [8]}": "network.depths [8]; allowed: two levels or more",
    "network: {in_channels: 5}": "network.in_channels: 5; allowed: a whole number from 3 to 4",
    "network: {batch_norm: none}": "network.batch_norm: 'none'; allowed: photo or stored",
    "attack_model_link: 3": "attack_model_link: 3; allowed: a text",
    "- iter_num": "holds a list",
    "iter_num: [": "is not YAML",
}


@pytest.mark.parametrize("text", CONFIG_FAULTS)
def test_settings_that_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.yml").write_text(text)
    with pytest.raises(UserError) as error:
        read_config(tmp_path / "train.yml")
    assert CONFIG_FAULTS[text] in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_are_read_as_meant(tmp_path: Path) -> None:
    (tmp_path / "train.yml").write_text("learning_rate: 1e-5\neps: 8/255\niter_num: 350\nnetwork: {depths: [8, 16]}\n")
    config = read_config(tmp_path / "train.yml", {"iter_num": 3})
    assert config == TrainConfig(iter_num=3, eps=8 / 255, network=NetworkConfig(depths=(8, 16)))
    (tmp_path / "train.yml").write_text("")
    assert read_config(tmp_path / "train.yml") == TrainConfig()
    with pytest.raises(UserError, match="nowhere"):
        read_config(tmp_path / "nowhere.yml")


AUTHORS = {  # names and values of the authors' configs/train.yml
    "iter_num": 1_000_000,
    "learning_rate": 0.00001,
    "batch_size": 5,
    "alpha": 4,
    "immunization_model": "diffvax",
    "train_all": True,
    "project_name": "diffvax",
    "attack_model_link": "runwayml/stable-diffusion-inpainting",
    "images_subdir": "train/images",
    "masks_subdir": "train/masks",
    "image_prompt_json": "image_prompt_pairs_with_validation.json",
}


def test_the_authors_own_config_is_read(tmp_path: Path) -> None:
    path, told = tmp_path / "train.yml", []
    path.write_text(yaml.safe_dump(AUTHORS))
    config = read_config(path, tell=told.append)
    folders = {"images_subdir": "train/images", "masks_subdir": "train/masks"}
    assert config == TrainConfig(attack_model_link="sd-inpaint", **folders)
    assert told == [
        f"config '{path}': not used here: immunization_model, project_name, image_prompt_json; attack_model_link: "
        "sd-inpaint in place of runwayml/stable-diffusion-inpainting, which was deleted from the hub"
    ]
    path.write_text("iter_num: 3\n")
    assert read_config(path, tell=told.append) == TrainConfig(iter_num=3)
    assert len(told) == 1


def test_the_authors_own_config_trains(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """On the command line, against a small editor; one photo of the training folder that the config names."""
    path, folder = tmp_path / "train.yml", tmp_path / "data"
    shutil.copytree(data, folder)
    (folder / "train/images").rename(folder / "cropped_images")
    (folder / "train/masks").rename(folder / "sam_masks")
    path.write_text(yaml.safe_dump({**AUTHORS, "images_subdir": "cropped_images", "masks_subdir": "sam_masks"}))
    changes = {**settings, "iter_num": 1, "train_all": False, "image_index_list": [1]}
    arguments = ["train", "--config", str(path), "--data-dir", str(folder), "--output-dir", str(tmp_path / "out")]
    for name, value in changes.items():
        arguments += ["--set", f"{name}={json.dumps(value)}"]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "not used here: immunization_model, project_name, image_prompt_json\n" in result.stderr
    assert load_immunizer(tmp_path / "out/immunizer").depths == (4, 8, 16)


def test_the_shipped_config_is_diffvax_s() -> None:
    config = read_config(ROOT / "configs" / "train.yml")
    assert (config.learning_rate, config.batch_size, config.alpha, config.steps, config.guidance) == (
        1e-5,
        5,
        4,
        4,
        7.5,
    )
    assert config.network == NetworkConfig()


def test_every_setting_with_a_number_has_limits() -> None:
    names = set()
    for prefix, kind in (("", TrainConfig), ("network.", NetworkConfig)):
        names |= {prefix + x for x, hint in get_type_hints(kind).items() if re.search(r"int|float", str(hint))}
    assert names == set(LIMITS)


def torchrun(data: Path, output: Path, config: Path, epochs: int) -> None:
    """Two processes on the CPU."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "editproof",
    ]
    options = ["--config", str(config), "--data-dir", str(data), "--output-dir", str(output), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*command, "train", *options, "--set", f"iter_num={epochs}"], env=environment,
                         capture_output=True, text=True)  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.count("weights: ") == 1


def test_two_processes_train_what_one_does_and_go_on(data: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """Batches of 3 and, at an epoch's end, 2 photos; a validation that only the first process makes."""
    own = {**settings, "validate_every": 1}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(own))
    for epochs in (1, 2):
        torchrun(data, tmp_path / "two", tmp_path / "config.yml", epochs)
    train(make_config({**own, "iter_num": 2}), data, tmp_path / "one", device="cpu")
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two] == [1, 2, 3, 3, 4, 5, 6, 6]
    for name in ("loss", "validation_loss"):
        values = [[line[name] for line in lines if name in line] for lines in (one, two)]
        assert values[1] == pytest.approx(values[0], rel=1e-3)


def test_several_processes_need_what_they_can_share(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 or more processes, but 1 GPUs; allowed: one process a GPU"), joined("cuda"):
        pass
    assert Ranks(1, 2).share([1, 2, 3]) == [2]
    assert Ranks(0, 2).share([1, 2, 3]) == [1, 3]


def test_a_process_reads_no_photo_that_another_edits(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 samples in batches of 3, 3, 2: by three processes, the last of which has none of the third batch."""
    config = make_config({"batch_size": 3, "workers": 0, "resolution": 32})
    samples = PhotoPrompts(read_split(data, "train"), 32)
    read: list[list[int]] = []
    plain = PhotoPrompts.__getitem__
    monkeypatch.setattr(PhotoPrompts, "__getitem__", lambda self, i: (read[-1].append(i), plain(self, i))[1])
    shapes = []
    for rank in range(3):
        read.append([])
        batches = list(_batches(samples, config, 0, 0, torch.device("cpu"), Ranks(rank, 3)))
        shapes.append([(count, 0 if own is None else len(own[0])) for count, own in batches])
    assert sorted(i for own in read for i in own) == list(range(8))
    assert shapes == [[(3, 1), (3, 1), (2, 1)], [(3, 1), (3, 1), (2, 1)], [(3, 1), (3, 1), (2, 0)]]


def test_missing_data_are_fetched(
    data: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; without network the line says what to do, and nothing is left behind."""
    config = make_config({**settings, "iter_num": 1})
    with pytest.raises(
        UserError, match=r"'.*new' does not exist, and dataset .* hub cannot be reached; allowed: a net"
    ):
        train(config, tmp_path / "new", tmp_path / "out", device="cpu")
    assert not list(tmp_path.iterdir())
    fetched: list[Path] = []

    def download(folder: Path) -> None:
        fetched.append(folder)
        shutil.copytree(data, folder)

    monkeypatch.setattr("editproof.immunizer.dataset.download_dataset", download)
    for epochs in (1, 2):
        train(replace(config, iter_num=epochs), tmp_path / "new", tmp_path / "out", device="cpu")
    assert fetched == [tmp_path / "new"]
