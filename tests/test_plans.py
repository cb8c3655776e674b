"""Where weights are: memory plans on the command line, in reports and in `doctor`; weights that are streamed."""

import json
import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from editproof.cli.doctor import Device, devices, fitting, needed
from editproof.cli.main import main
from editproof.editors import EDITORS, PLANS, check_plan, load_editor
from editproof.editors.kontext import KontextEditor
from editproof.editors.pipeline import Editor
from editproof.editors.speed import placement as plans
from editproof.editors.speed import streaming
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.photo.reading import save_png
from editproof.protection.batch import batches
from editproof.protection.task import Job
from editproof.randomness import generators

GIB = 2**30
IMAGES = tiny.pictures()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_png("photo.png", tiny.pictures(1, 40, 48)[0])
    return tmp_path


REFUSED = {
    "protect photo.png --out out --plan stream": "plan 'stream' would change nothing; allowed: no --plan",
    "protect photo.png --out out --method veto --plan magic": "'magic': one of whole, stream, int8, first-block",
    "protect photo.png --out out --method decontext --plan first-block": "too little for decontext; allowed: whole",
    "protect photo.png --out out --method veto --plan first-block --editor tiny-inpaint": "'first-block' is for FLUX",
    "edit photo.png --out out.png --prompt x --plan first-block": "too little for an edit; allowed: whole, stream",
    "edit photo.png --out out.png --prompt x --plan magic": "unknown plan 'magic'",
    "demo --out out --plan first-block": "too little for an edit",
    "demo --out out --plan magic": "unknown plan 'magic'",
}


@pytest.mark.parametrize(("command", "words"), REFUSED.items())
def test_plans_that_are_refused_in_one_line(
    command: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == {"photo.png"}


def test_a_plan_is_used_and_reported(folder: Path, tiny_folder: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    placed, place = [], plans.place
    monkeypatch.setattr(plans, "place", lambda pipe, plan, *more: placed.append(plan) or place(pipe, plan, *more))
    editor = ["--editor", str(tiny_folder("flux-kontext")), "--size", "32"]
    names = [plan for plan in PLANS if plan != "int8" or find_spec("torchao")]
    for plan in names:
        arguments = f"protect photo.png --out {plan} --method veto --steps 1 --set timesteps=1 --plan {plan}"
        assert main([*arguments.split(), *editor]) == 0
        assert json.loads((folder / plan / "photo-protected.json").read_text())["plan"] == plan
    assert (
        main(["edit", "photo.png", "--prompt", "x", "--out", "out.png", "--steps", "1", "--plan", "stream", *editor])
        == 0
    )
    monkeypatch.setattr(KontextEditor, "steps", 1)
    assert main(["demo", "--plan", "stream", "--out", "demo", "--image", "photo.png", *editor]) == 0
    assert placed == [*names, "stream", "stream"]
    assert main(["protect", "photo.png", "--out", "noise", "--method", "noise"]) == 0
    assert json.loads((folder / "noise/photo-protected.json").read_text())["plan"] is None


def test_check_plan() -> None:
    for name, method in METHODS.items():
        for plan in (None, "whole", "stream"):
            check_plan(plan, name, method.first_block)
    assert [name for name, method in METHODS.items() if method.first_block] == ["veto"]
    check_plan("first-block", "veto", METHODS["veto"].first_block)
    with pytest.raises(UserError, match="too little for an edit"):
        check_plan("first-block")


def test_large_models_spare_memory(tiny_folder: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(Path("a"), (16, 16), Path("b"), Path("c"))
    editor = load_editor(tiny_folder("flux-kontext"), device="cpu", size=32)
    assert (editor.batch, editor.denoiser.gradient_checkpointing) == (8, False)
    expected = gradients(editor)
    monkeypatch.setattr(plans, "LARGE", 0)
    editor = load_editor(tiny_folder("flux-kontext"), device="cpu", size=32)
    assert editor.denoiser.gradient_checkpointing
    calls: list[object] = []
    resnet = next(m for m in editor.pipe.vae.encoder.modules() if type(m).__name__ == "ResnetBlock2D")
    resnet.conv1.register_forward_hook(lambda *call: calls.append(call))
    assert torch.equal(gradients(editor), expected)
    assert len(calls) == 1  # there is room
    monkeypatch.setattr(streaming, "roomy", lambda device, size: False)
    assert torch.equal(gradients(load_editor(tiny_folder("flux-kontext"), device="cpu", size=32)), expected)
    streaming.recompute_resnets(editor.pipe.vae, always=True)
    assert torch.equal(gradients(editor), expected)
    assert len(calls) == 3  # once more in the backward pass
    monkeypatch.setattr("editproof.editors.pipeline.LARGE", 0)
    assert editor.batch == 1
    assert [len(batch) for batch in batches([job] * 3, lambda size: size, editor.batch)] == [1, 1, 1]


def gradients(editor: Editor) -> torch.Tensor:
    images = IMAGES.clone().requires_grad_()
    return torch.autograd.grad((editor.encode(images) ** 2).sum(), images)[0]


@pytest.mark.parametrize("chunk", [1, 1536, 2**29])
def test_weights_for_a_gpu_are_copied_into_few_blocks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no GPU the blocks are not pinned, which is what happens where no memory can be."""
    monkeypatch.setattr(streaming, "CHUNK", chunk)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 300, bias=False).half(), nn.LayerNorm(3).bfloat16())
    model[0].register_parameter("scale", nn.Parameter(torch.tensor(3.0)))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    homes = streaming._homes(model, torch.device("cuda"))
    for name, parameter in model.named_parameters():
        home = homes[id(parameter)]
        assert torch.equal(home, before[name])
        assert home.dtype == before[name].dtype
        assert home.data_ptr() == parameter.data_ptr()  # nothing is there twice
    blocks = {home.untyped_storage().data_ptr() for home in homes.values()}
    assert len(blocks) == {1: 6, 1536: 3, 2**29: 1}[chunk]


def test_streamed_modules_share_their_tied_weights_and_run_where_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed, layer = [], streaming.stream_layer
    monkeypatch.setattr(streaming, "stream_layer", lambda module, weights, copies: (
        streamed.append(weights["weight"]), layer(module, weights, copies)))  # fmt: skip
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("shift", torch.ones(1))
    words = torch.tensor([1, 2])
    expected = model(words)
    streaming.stream(model, torch.device("cpu"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert len(streamed) == 2
    assert streamed[0].data_ptr() == streamed[1].data_ptr()
    assert torch.equal(model(words), expected)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model._hf_hook.execution_device.type == "cpu"


# What fits

GPU = Device("cuda:0", "a GPU", 80 * GIB, 80 * GIB, 2)
FITS = {  # editor, GiB of the GPU, GiB of CPU memory -> plan
    ("flux-kontext", 80, 64): "whole",
    ("flux-kontext", 24, 64): "stream",
    ("flux-kontext", 16, 64): "stream",
    ("flux-kontext", 16, 16): "first-block",
    ("flux-kontext", 2, 64): "no",
    ("flux2-klein", 24, 32): "whole",
    ("flux2-klein", 8, 32): "stream",
    ("step1x-edit", 24, 64): "stream",
    ("step1x-edit", 24, 32): "no",
    ("sd-inpaint", 8, 16): "whole",
    ("tiny-inpaint", 2, 8): "whole",
}


@pytest.mark.parametrize(("asked", "plan"), FITS.items(), ids=str)
def test_the_plan_that_fits(asked: tuple[str, int, int], plan: str) -> None:
    name, gpu, memory = asked
    device = Device("cuda:0", "a GPU", gpu * GIB, gpu * GIB, 2)
    said = fitting(EDITORS[name], device, memory * GIB)
    assert said.startswith(plan)
    assert ("(veto only)" in said) == (plan == "first-block")


def test_doctor_knows_every_editor(capsys: pytest.CaptureFixture[str]) -> None:
    for info in EDITORS.values():
        assert 0 < info.largest <= info.weights
        assert set(needed(info, GPU)) <= set(PLANS)
        assert ("first-block" in needed(info, GPU)) == (info.first_block > 0)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(f"{plan}: {where[:20]}" in said for plan, where in PLANS.items())
    assert f"plan on {devices()[0].name}" in " ".join(said.split())


@pytest.mark.parametrize("name", [name for name, info in EDITORS.items() if info.embedded])
def test_what_is_said_of_an_embedded_editor_is_so(name: str) -> None:
    editor = load_editor(name, device="cpu")
    parts = [part for part in editor.pipe.components.values() if isinstance(part, nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    assert EDITORS[name].weights == pytest.approx(
        sum(p.numel() for part in parts for p in part.parameters()) / 1e6, abs=1
    )
    assert EDITORS[name].largest >= max(sum(p.numel() for p in m.parameters(recurse=False)) for m in modules) / 1e6


def test_int8_without_torchao_is_told_in_one_line(
    tiny_folder: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["edit", "photo.png", "--prompt", "a hat", "--device", "cpu", "--plan", "int8", "--out", "out.png"]
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    assert main([*command, "--editor", str(tiny_folder("flux-kontext"))]) == 2
    assert "plan 'int8' needs torchao; allowed: pip install 'editproof[quantized]'" in capsys.readouterr().err
    assert main([*command, "--editor", "tiny-kontext"]) == 2
    assert "plan 'int8' is for large editors in diffusers' layout, and editor tiny-kontext" in capsys.readouterr().err
    assert not Path("out.png").exists()


def test_what_torchao_says_of_itself_is_not_shown() -> None:
    """Where it is installed, each command would begin with four lines about files of its own."""
    for library in ("torchao", "torch.utils._pytree"):
        assert not logging.getLogger(library).isEnabledFor(logging.WARNING)
        assert logging.getLogger(library).isEnabledFor(logging.ERROR)


@pytest.mark.filterwarnings("ignore")  # of torchao, while it is imported
@pytest.mark.parametrize("name", ["flux-kontext", "sd-inpaint", "sd3-img2img", "qwen-edit"])
def test_int8_edits_and_protects_nearly_as_without(tiny_folder: Callable, tiny_editor: Callable, name: str) -> None:
    pytest.importorskip("torchao")
    whole, editor = tiny_editor(name), load_editor(tiny_folder(name), device="cpu", size=tiny.SIZE, plan="int8")
    assert editor.plan == "int8"
    assert {type(p.data).__name__ for p in whole.denoiser.parameters()} == {"Tensor"}
    parts = [editor.denoiser, *([editor.pipe.text_encoder] if name == "qwen-edit" else [])]
    assert all("Int8Tensor" in {type(p.data).__name__ for p in part.parameters()} for part in parts)
    mask = tiny.hole() if editor.masked else None
    edits = [one.edit(IMAGES, "a hat", mask=mask, steps=3) for one in (whole, editor)]
    assert 0 < (edits[0] - edits[1]).abs().mean() < 0.01
    gradients = []
    for one in (whole, editor):
        images = IMAGES.clone().requires_grad_()
        edited = one.sample(images, "a hat", mask=mask, steps=3, generator=generators(0, len(IMAGES)))
        gradients.append(torch.autograd.grad(edited.square().sum(), images)[0].flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98
    if name == "flux-kontext":
        protected = METHODS["decontext"](editor, IMAGES, steps=2)
        assert 0 < (protected - IMAGES).abs().max() <= 12.75 / 255 + 1e-6


@pytest.mark.parametrize("option", ["--no-record", "--no-compile"])
def test_the_old_name_of_an_option_is_taken(folder: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, place = list[bool](), plans.place
    monkeypatch.setattr(
        plans, "place", lambda pipe, plan, device, record: recorded.append(record) or place(pipe, plan, device, record)
    )
    command = ["protect", "photo.png", "--method", "photoguard-encoder", "--steps", "1", "--size", "32", "--out", "out"]
    assert main([*command, option]) == 0
    assert recorded == [False]
    load_editor("tiny-inpaint", "cpu", compile=False)
    load_editor("tiny-inpaint", "cpu")
    assert recorded == [False, False, True]
