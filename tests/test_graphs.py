"""Recorded kernels and wide attention: what they compute is what the plain code computes."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.utils._pytree import tree_flatten

from editproof.budgets import Linf
from editproof.editors import load_editor
from editproof.editors.attention import context_mass
from editproof.editors.speed import graphs, wide
from editproof.editors.speed.graphs import Graphs
from editproof.methods import METHODS
from editproof.randomness import generators


def test_calls_off_the_gpu_or_without_gradient_are_not_recorded() -> None:
    calls = list[object]()

    def double(x: Tensor, more: dict[str, Tensor]) -> tuple[Tensor, str]:
        calls.append(x)
        return 2 * x + more["y"], "said"

    double_graphs, x = Graphs(double), torch.ones(3, requires_grad=True)
    for _ in range(2):
        y, said = double_graphs(x, more={"y": torch.ones(3)})
        assert said == "said" and torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.full((3,), 2.0))
    assert len(calls) == 2 and not double_graphs.idle and not double_graphs.fails


class FakeRecording:
    """Stands for a Recording, whose graphs need a GPU."""

    def __init__(self, function: object, leaves: list[object], spec: object, pool: object) -> None:
        if leaves[0].shape == (2,):  # type: ignore[attr-defined]
            raise MemoryError

    spec = tree_flatten(0)[1]


def test_recordings_are_lent_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "Recording", FakeRecording)
    monkeypatch.setattr(graphs, "_recordable", lambda tensors: True)
    for name in ("current_stream", "set_stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *more: None)
    leases = list[graphs.Lease]()
    monkeypatch.setattr(
        graphs._Replay, "apply", lambda lease, *tensors: leases.append(lease) or (tensors[0] * 10,), raising=False
    )
    calls, small, large = Graphs(lambda x: x + 1), torch.ones(1), torch.ones(3)
    for _ in range(2):  # both busy at once
        assert torch.equal(calls(small), 10 * small)
    assert len(leases) == 2 and leases[0].recording is not leases[1].recording and not calls.idle
    leases.pop().end()
    assert len(calls.idle) == 1
    assert torch.equal(calls(torch.ones(2)), torch.full((2,), 2.0)), "what cannot be recorded is called"
    assert len(calls.fails) == 1 and not calls.idle
    assert torch.equal(calls(large), 10 * large) and calls.key not in calls.fails
    leases.pop().end()
    calls.forget()
    assert not calls.idle and calls.key is None


@pytest.mark.parametrize("enabled", [True, False])
def test_the_order_of_attention_is_put_back(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    order = torch._C._get_sdp_priority_order()
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    try:
        for _ in range(2):
            with graphs._attention(True):
                first, *rest = torch._C._get_sdp_priority_order()
                assert first == SDPBackend.CUDNN_ATTENTION.value and sorted([first, *rest]) == sorted(order)
                assert torch.backends.cuda.cudnn_sdp_enabled()
            assert torch._C._get_sdp_priority_order() == order
            assert torch.backends.cuda.cudnn_sdp_enabled() == enabled
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
        with graphs._attention(True):
            assert torch._C._get_sdp_priority_order() == order
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


@pytest.mark.gpu
def test_what_is_replayed_is_what_was_recorded() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU()).cuda().requires_grad_(False)
    graphs = Graphs(network)

    def gradient(call: object, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        y = call(x)  # type: ignore[operator]
        return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]

    for size in (16, 16, 24, 16):
        x = torch.rand(2, 3, size, size, device="cuda")
        for ours, plain in zip(gradient(graphs, x), gradient(network, x), strict=True):
            assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())
        assert not graphs.fails and len(graphs.idle) == 1


@pytest.mark.gpu
def test_two_calls_before_a_backward_pass_have_two_recordings_and_all_come_back() -> None:
    graphs = Graphs(lambda x: x.sin())
    a, b = (torch.full((4,), value, device="cuda", requires_grad=True) for value in (1.0, 2.0))
    first, second = graphs(a), graphs(b)
    assert torch.allclose(torch.autograd.grad(second.sum(), b)[0], b.cos())
    assert torch.allclose(torch.autograd.grad(first.sum(), a, retain_graph=True)[0], a.cos())
    with pytest.raises(RuntimeError, match="one backward pass"):
        torch.autograd.grad(first.sum(), a)
    assert len(graphs.idle) == 2
    third = graphs(a)
    assert len(graphs.idle) == 1
    del third
    gc.collect()
    assert len(graphs.idle) == 2


@pytest.mark.gpu
def test_what_cannot_be_recorded_is_called() -> None:
    graphs, x = Graphs(lambda x: x * x.sum().item()), torch.ones(3, device="cuda", requires_grad=True)
    assert torch.equal(torch.autograd.grad(graphs(x).sum(), x)[0], torch.full((3,), 3.0, device="cuda"))
    assert graphs.fails
    torch.randn(3, device="cuda")  # goes on


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, which imports what PyTorch calls deprecated
def test_compiled_blocks_measure_the_same(tiny_folder: Callable) -> None:
    editor, values = load_editor(tiny_folder("flux-kontext"), "cuda", size=tiny.SIZE), []
    for compiled in (False, True):
        images = tiny.pictures().cuda().requires_grad_()
        mass = context_mass(
            editor, images, blocks="all single", timestep=0.99, generator=generators(0, 2), compiled=compiled
        )
        values.append((mass.detach(), torch.autograd.grad(mass.sum(), images)[0]))
    for plain, fast in zip(*values, strict=True):
        assert (plain - fast).norm() < 0.05 * plain.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tiny-inpaint", "tiny-kontext"])
def test_methods_do_the_same_with_recorded_kernels(name: str) -> None:
    images, mask = tiny.pictures().repeat(1, 1, 2, 2), tiny.hole().repeat(1, 1, 2, 2)
    methods = ["photoguard-encoder", "diffusionguard"] if name == "tiny-inpaint" else ["decontext", "veto"]
    for method in methods:
        both = [
            METHODS[method](
                load_editor(name, "cuda", record=record), images.cuda(), steps=3, budget=Linf(8 / 255),
                mask=mask.cuda() if name == "tiny-inpaint" else None,
            )
            for record in (True, False)
        ]  # fmt: skip
        assert (both[0] - both[1]).abs().mean() < 1 / 255


def test_wide_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = Attention(32, heads=1, dim_head=32, norm_num_groups=4, residual_connection=True, bias=True)
    x = torch.randn(2, 32, 6, 5)
    for largest in (2 * 30**2 * 4, 2 * 30**2 * 4 - 1):
        monkeypatch.setattr(wide, "LARGEST", largest)
        results = []
        for processor in (wide.WideAttention(), AttnProcessor2_0()):
            attention.set_processor(processor)
            results.append(attention(x))
        assert torch.allclose(*results, atol=1e-5)


@pytest.mark.parametrize("name", ["sd-inpaint", "instruct-pix2pix", "flux-kontext", "flux2-klein", "step1x-edit"])
def test_a_call_leaves_the_pipeline_and_pytorch_as_they_were(tmp_path: Path, name: str) -> None:
    """What an edit needs to be different is different while it runs: classes, scheduler, encoding, attention."""
    there = torch.backends.cuda.cudnn_sdp_enabled()
    editor = load_editor(tiny.save(name, tmp_path / "before"), "cpu")

    def state() -> list[object]:
        parts = [editor.pipe, *(part for part in editor.pipe.components.values() if part is not None)]
        return [torch.backends.cuda.cudnn_sdp_enabled(), *((type(x), sorted(vars(x)), id(x)) for x in parts),
                {key: id(value) for key, value in vars(editor.pipe).items() if not key.startswith("_")}]  # fmt: skip

    images, mask = tiny.pictures(), tiny.hole() if editor.masked else None
    more = {} if name == "step1x-edit" else {"strength": 0.5}
    editor.edit(images, "snow", mask=mask, steps=2)  # the first call leaves what diffusers' own code notes
    before, seen = state(), list[object]()

    def look(*call: object) -> None:
        seen.append((torch.backends.cuda.cudnn_sdp_enabled(), "_execution_device" in vars(type(editor.pipe))))

    hook = editor.denoiser.register_forward_pre_hook(look)
    edited = editor.edit(images, "snow", mask=mask, steps=2, **more)
    with pytest.raises(KeyError):
        editor.edit(images, "snow", mask=mask, steps=2, callback=lambda step, steps: {}["fails"])
    hook.remove()
    assert set(seen) == {(there and editor.cudnn, True)}
    now = state()
    assert now[0] == there and [kind for kind, *_ in now[1:-1]] == [kind for kind, *_ in before[1:-1]]
    assert now[1:-1] == before[1:-1]
    changed = {key for key in before[-1] if now[-1][key] != before[-1][key]}
    assert not changed & {"scheduler", "image_processor", "vae", "unet", "transformer"}
    editor.pipe.save_pretrained(tmp_path / "after")
    again = load_editor(tmp_path / "after", "cpu").edit(images, "snow", mask=mask, steps=2, **more)
    assert torch.equal(again, edited)


def test_cudnns_attention_is_off_until_the_last_one_is_out() -> None:
    enabled = torch.backends.cuda.cudnn_sdp_enabled
    torch.backends.cuda.enable_cudnn_sdp(True)
    inside, leave = threading.Barrier(2), threading.Barrier(2)

    def other() -> None:
        inside.wait(60)
        leave.wait(60)

    thread = threading.Thread(target=graphs.without_cudnn, args=(other,))
    thread.start()
    inside.wait(60)
    assert not graphs.without_cudnn(enabled), "it is off inside"
    assert not enabled(), "another one is still inside"
    leave.wait(60)
    thread.join()
    assert enabled()
    with pytest.raises(ZeroDivisionError):
        graphs.without_cudnn(lambda: 1 / 0)
    assert enabled()
