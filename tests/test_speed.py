"""What makes it fast changes nothing: draws together or apart, kept or computed anew, compiled or not. And its
benchmark, on tiny models."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import speed
import speed_case
import speed_cases
import speed_docs
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.budgets import Linf
from editproof.editors import attention, pipeline
from editproof.editors.pipeline import Editor
from editproof.editors.speed import memory as room
from editproof.editors.speed.fused import works
from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet, perturb
from editproof.methods import METHODS
from editproof.pgd import pgd
from editproof.randomness import children, generators

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Load = Callable[[str], Editor]
IMAGES, MASK = tiny.pictures(), tiny.hole()


def gradient(editor: Editor, draws: int, mask: Tensor | None = None, **more: object) -> Tensor:
    """Of a loss over a few-step edit, with `draws` draws together."""
    images = IMAGES.clone().requires_grad_()
    own = children(generators(0, len(images)), draws)
    edited = editor.sample(images, "snow", mask=mask, steps=2, generator=own, **more)
    assert len(edited) == draws * len(images)
    return torch.autograd.grad((edited.float() ** 2).sum(), images)[0]


@pytest.mark.parametrize("name", tiny.MAKERS)
def test_draws_that_go_together_are_those_that_go_one_by_one(tiny_editor: Load, name: str) -> None:
    editor = tiny_editor(name)
    mask = MASK if editor.masked else None
    own = children(generators(0, len(IMAGES)), 3)
    with torch.no_grad():
        both = editor.sample(IMAGES, ["snow", "rain"], mask=mask, steps=2, generator=own)
        own = children(generators(0, len(IMAGES)), 3)
        rows = [
            editor.sample(IMAGES, ["snow", "rain"], mask=mask, steps=2, generator=own[2 * n : 2 * n + 2])
            for n in range(3)
        ]
    assert torch.allclose(both, torch.cat(rows), atol=1e-4)
    assert not torch.allclose(rows[0], rows[1], atol=1e-2)


def test_a_mask_for_each_draw(tiny_editor: Load) -> None:
    editor, masks = tiny_editor("sd-inpaint"), torch.cat([MASK, 1 - MASK])

    def predicted(rows: slice, masks: Tensor) -> Tensor:
        return editor.first_prediction(IMAGES, mask=masks, generator=children(generators(0, 2), 2)[rows])

    with torch.no_grad():
        both = predicted(slice(0, 4), masks)
        apart = torch.cat([predicted(slice(0, 2), masks[:2]), predicted(slice(2, 4), masks[2:])])
    assert torch.allclose(both, apart, atol=1e-4)


@pytest.mark.parametrize("name", ["sd-inpaint", "instruct-pix2pix"])
def test_what_is_computed_anew_has_the_same_gradient(tiny_editor: Load, name: str) -> None:
    editor = tiny_editor(name)
    mask, calls = MASK if editor.masked else None, list[object]()
    hook = editor.denoiser.conv_in.register_forward_pre_hook(lambda *call: calls.append(call))
    try:
        editor.recompute = False
        kept = gradient(editor, 2, mask)
        before = len(calls)
        editor.recompute = True
        assert torch.allclose(gradient(editor, 2, mask), kept, atol=1e-4 * kept.abs().max().item())
        assert len(calls) == 3 * before
        assert "forward" not in vars(editor.denoiser)
    finally:
        del editor.recompute
        hook.remove()


def test_memory_decides(tiny_editor: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    editor, cpu = tiny_editor("sd-inpaint"), torch.device("cpu")
    assert room.roomy(cpu, 1) and not room.roomy(cpu, 1e15)
    assert not editor.spares(1, IMAGES, 4)
    monkeypatch.setattr(pipeline, "roomy", lambda device, size, own: size < 1e6)
    assert editor.spares(1, IMAGES, 4)
    assert [room.together(10, pixels) for pixels in (1, 2 * 512**2, 3 * 512**2, 10**9)] == [10, 5, 2, 1]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch's compiler looks at it
def test_blocks_are_kept_where_there_is_room(tiny_editor: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tiny_editor("flux-kontext")
    model, calls = editor.denoiser, list[object]()
    hook = model.single_transformer_blocks[0].register_forward_pre_hook(lambda *call: calls.append(call))
    model.enable_gradient_checkpointing()

    def mass(**more: bool) -> tuple[Tensor, Tensor]:
        images = IMAGES.clone().requires_grad_()
        value = attention.context_mass(
            editor, images, blocks="all single", timestep=0.99, generator=generators(0, 2), **more
        )
        return value, torch.autograd.grad(value.sum(), images)[0]

    try:
        kept = mass()
        assert len(calls) == 1
        monkeypatch.setattr(attention, "room", lambda device: 0)
        anew = mass()
        assert len(calls) == 3
        compiled = torch.compile(attention._step, backend="eager")
        monkeypatch.setattr(attention, "_compiled_step", lambda: compiled)
        model.disable_gradient_checkpointing()
        hook.remove()
        for other in (anew, mass(compiled=True)):
            assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-7) for a, b in zip(kept, other, strict=True))
    finally:
        model.disable_gradient_checkpointing()
        hook.remove()


def test_how_many_draws_go_together_changes_nothing(tiny_editor: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    module, sizes = sys.modules["editproof.methods.photoguard_diffusion"], list[int]()
    editor, samples = tiny_editor("sd-inpaint"), tiny_editor("sd-inpaint").sample
    monkeypatch.setattr(editor, "sample", lambda *a, **b: sizes.append(len(b["generator"])) or samples(*a, **b))

    def protected() -> Tensor:
        return METHODS["photoguard-diffusion"](editor, IMAGES, mask=MASK, steps=2, samples=4, denoising_steps=2)

    apart = protected()
    monkeypatch.setattr(module, "on_cuda", lambda device: True)
    assert (apart != protected()).float().mean() < 0.01
    assert sizes == [2] * 8 + [8] * 2


def test_start_and_its_budget() -> None:
    target = torch.full_like(IMAGES, 0.5)
    begun = pgd(lambda images: images.sum((1, 2, 3)), IMAGES, Linf(0.1), steps=0, step_size=0.1, start=target)
    assert torch.allclose(begun, IMAGES + (target - IMAGES).clamp(-0.1, 0.1), atol=0.51 / 255)


@pytest.mark.parametrize("method", ["photoguard-encoder", "photoguard-diffusion", "diffusionguard"])
def test_attacks_may_start_from_the_immunizer(tiny_editor: Load, method: str) -> None:
    editor, budget = tiny_editor("sd-inpaint"), Linf(8 / 255)
    begun = METHODS["immunizer"](None, IMAGES, mask=MASK, budget=budget)
    knobs: dict = {"samples": 1} if method == "photoguard-diffusion" else {}
    still = METHODS[method](
        editor, IMAGES, mask=MASK, budget=budget, steps=1, step_size=0.0, start="immunizer", **knobs
    )
    assert torch.allclose(still, begun, atol=1.01 / 255)
    with pytest.raises(UserError, match="start 'middle': allowed are 'immunizer'"):
        METHODS[method](editor, IMAGES, mask=MASK, budget=budget, steps=1, start="middle", **knobs)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 128, 64, 64), (3, 96, 33, 47)], ids=str)
def test_fused_norms_on_a_gpu(shape: tuple[int, ...]) -> None:
    from editproof.editors.speed.norms import group_norm

    assert works(torch.device("cuda"))
    exact = torch.randn(shape, dtype=torch.float64, device="cuda").requires_grad_()
    half = exact.detach().half().requires_grad_()
    weight, bias = torch.randn(2, shape[1], device="cuda")
    ours = group_norm(half, 32, weight, bias, 1e-5, "silu")
    plain = F.silu(F.group_norm(exact, 32, weight.double(), bias.double(), 1e-5))
    pairs = [
        (ours, plain),
        [torch.autograd.grad((y.double() ** 2).sum(), x)[0] for y, x in ((ours, half), (plain, exact))],
    ]
    assert all((a.double() - b).norm() < 0.005 * b.norm() for a, b in pairs)


def test_fused_norms_are_left_alone_without_a_gpu() -> None:
    assert not works(torch.device("cpu"))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_of_the_network_is_rounding(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    network, photos = NestedUNet(depths=(8, 16, 32), batch_norm="photo").eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        exact = perturb(network, photos, eps=8 / 255)
        network.to(kind)
        for module in network.modules():
            if type(module).__name__ == "PhotoNorm":
                module.float()
        for rows in (slice(0, 2), slice(0, 1)):
            off = (perturb(network, photos[rows], eps=8 / 255) - exact[rows]).norm() / exact[rows].norm()
            assert off < (0.005 if kind == torch.float16 else 0.04)


# The benchmark


def test_every_method_has_a_case() -> None:
    cases = [case for part in speed_cases.PARTS.values() for case in part]
    never_timed = {
        "pca",
        "mist",
        "dct-shield",
        "advpaint",
        "diff-pgd",
        "universal",
    }  # nor named in docs/speed.md
    assert set(METHODS) - {"noise", "immunizer", "diffvax"} - never_timed <= {case.method for case in cases}
    assert {case.model for case in cases} == set(speed_cases.MODELS)
    assert {case.variant for case in cases} <= set(speed_cases.VARIANTS)


def test_the_benchmark_runs_on_tiny_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {"sd": [0, 1], "flux": [0], "immunizer": [0]}
    monkeypatch.setattr(
        speed, "PARTS", {part: [speed_cases.PARTS[part][n] for n in some] for part, some in cases.items()}
    )
    out = tmp_path / "a.jsonl"
    tiny_run = ["--tiny", "--steps", "1", "--warm-up", "0", "--device", "cpu", "--runs", "2"]
    monkeypatch.setattr(sys, "argv", ["speed", "--out", str(out), *tiny_run])
    speed.main()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[0]["part"] == "ceiling" and rows[0]["tflop_per_s"] > 0
    assert len(rows) == 1 + 4
    for row in rows[1:]:
        assert "error" not in row
        assert row["s_per_step"] > 0 and row["runs"] == 2 and row["tiny"] and row["device"].startswith("CPU")
        assert row["method"] == "pass" or row["tflop"] >= 0
    speed.main()  # finds them all
    assert len(out.read_text().splitlines()) == 5


@pytest.mark.parametrize(
    "case", [c for part in speed_cases.PARTS.values() for c in part if c.variant != "default"], ids=str
)
def test_variants_take_steps(case: speed_cases.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_cases.compiling, "MANY", speed_cases.compiling.MANY)
    cpu, taken = torch.device("cpu"), list[int]()
    model = speed_cases.build(case.model, cpu, tiny=True)
    speed_cases.change(case.variant, model)
    speed_case.runner(case, model, cpu, tiny=True)(1, lambda step, of, loss: taken.append(step))
    assert taken == [1]


ROW = {"model": "sd-inpaint", "method": "photoguard-encoder", "batch": 1, "side": 512, "settings": {},
       "variant": "default", "limit_gib": None, "s_per_step": 0.0091, "driver_gib": 3.21, "tflop_per_s": 250.0,
       "device": "NVIDIA H100",
       "torch": "2.11", "diffusers": "0.42.1", "tiny": False}  # fmt: skip


def test_the_table_is_made_of_rows_of_one_machine() -> None:
    ceiling = {"part": "ceiling", "tflop_per_s": 750.0, "tb_per_s": 3.0, "device": "NVIDIA H100"}
    table = speed_docs.published([ceiling, ROW])
    assert "| PhotoGuard encoder, SD 1.5 | .0256, 3.6 | .0091 | 3.2 | 250 (33 %) | .006 | no |" in table
    with pytest.raises(UserError, match=r"rows of NVIDIA H100 and NVIDIA H200"):
        speed_docs.published([ceiling, ROW, {**ROW, "device": "NVIDIA H200"}])


def test_the_document_is_that_of_the_committed_rows() -> None:
    assert speed_docs.written() == (BENCHMARKS.parent / "docs" / "speed.md").read_text()
