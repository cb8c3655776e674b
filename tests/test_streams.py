"""Recorded kernels and weights that are copied beside the computing, on the stand-in for a GPU of fake_gpu.py."""

from collections import deque
from collections.abc import Iterator

import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel
from fake_gpu import Gpu, Race, Stream, gpu
from test_attention import small
from torch import Tensor, nn

from editproof.editors import attention
from editproof.editors.attention import record_blocks, token_context_mass
from editproof.editors.speed import graphs, memory, streaming
from editproof.editors.speed.graphs import Graphs
from editproof.pgd import Told


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    monkeypatch.setattr(graphs, "_recordable", lambda tensors: any(x.requires_grad for x in tensors))
    with gpu(monkeypatch) as card:
        yield card


def test_the_stand_in_notices_what_is_not_waited_for(card: Gpu) -> None:
    side, x = Stream(), torch.ones(3)
    with pytest.raises(Race), card.on(side):
        x + 1
    side.wait_stream(card.current)
    with card.on(side):
        y = x + 1
    with pytest.raises(Race):
        y + 1
    card.current.wait_stream(side)
    y += 1
    with pytest.raises(Race), card.on(side):
        y.fill_(0)


def gradients(call: object, *inputs: Tensor) -> list[Tensor]:
    """What a call returns, and the gradients of a loss for all inputs that want one."""
    inputs = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)
    first, second = call(*inputs)  # type: ignore[operator]
    loss = first.square().sum() + (3 * second).sum()
    return [first.detach(), second.detach(), *torch.autograd.grad(loss, [x for x in inputs if x.requires_grad])]


def test_what_is_replayed_is_what_the_function_gives_for_other_values(card: Gpu) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten()).requires_grad_(False)
    calls = list[object]()

    def function(x: Tensor, other: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(x)
        y = network(x) * weight.sum()
        return y, (x * other).exp().sum((1, 2, 3))

    recorded = Graphs(function)
    for size in (6, 6, 6, 8, 8):
        inputs = [torch.randn(2, 3, size, size, requires_grad=True) for _ in "ab"]
        inputs.append(torch.randn(5))
        ours = gradients(recorded, *inputs)
        for a, b in zip(ours, gradients(function, *inputs), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    times = (graphs.WARM_UP + 1) * 2 + 5  # two sizes are recorded, and the plain function was called five times
    assert len(calls) == times and not recorded.fails and len(recorded.idle) == 1


def test_two_recordings_are_busy_at_once_and_each_has_one_backward_pass(card: Gpu) -> None:
    recorded = Graphs(lambda x: x.sin())
    a, b = (torch.full((4,), value, requires_grad=True) for value in (1.0, 2.0))
    first, second = recorded(a), recorded(b)
    assert torch.allclose(torch.autograd.grad(second.sum(), b)[0], b.cos())
    assert torch.allclose(torch.autograd.grad(first.sum(), a, retain_graph=True)[0], a.cos())
    with pytest.raises(RuntimeError, match="one backward pass"):
        torch.autograd.grad(first.sum(), a)
    assert not recorded.fails and len(recorded.idle) == 2


class Home(Tensor):
    """A weight whose copy to a device is a kernel, as it is from pinned memory."""

    def to(self, *where: object, **how: object) -> Tensor:
        return self.as_subclass(Tensor).clone()


def test_computing_waits_for_the_weights_it_needs_and_they_are_kept_for_it(
    card: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = list[Stream]()
    monkeypatch.setattr(Tensor, "record_stream", lambda x, stream: kept.append(stream))
    weight = torch.randn(4, 4)
    copies = streaming.Copies(torch.device("cpu"))
    copies.stream = Stream()  # type: ignore[assignment]
    copies.stream.wait_stream(card.current)
    for _ in range(3):
        there = copies.fetch({"weight": weight.as_subclass(Home)})
        assert torch.equal(torch.ones(1, 4) @ there["weight"], torch.ones(1, 4) @ weight)
        copies.used({"weight": weight})
    assert kept == [card.current] * 3
    assert copies.bytes == 3 * weight.nbytes and len(copies.in_use) == 3


def test_the_copies_stay_within_what_may_be_ahead(card: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(4, 4)
    monkeypatch.setattr(streaming, "AHEAD", 2 * weight.nbytes)
    copies, waited = streaming.Copies(torch.device("cpu")), list[object]()
    copies.stream, copies.in_use = Stream(), deque()  # type: ignore[assignment]
    copies.stream.wait_stream(card.current)
    for number in range(6):
        before = card.current.launched
        copies.fetch({"weight": weight.as_subclass(Home)})
        waited.append(Gpu.host.seen.get(card.current, 0) > 0)
        assert copies.bytes <= 2 * weight.nbytes or number < 3
        weight + 1
        assert card.current.launched > before
        copies.used({"weight": weight})
    assert waited == [False] * 3 + [True] * 3


def test_a_step_that_is_told_late_is_read_when_it_has_arrived(card: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    news = list[tuple[int, float]]()
    told = Told(3, lambda step, steps, loss: news.append((step, loss)), late=True)
    empty, read = torch.empty_like, Tensor.tolist
    monkeypatch.setattr(torch, "empty_like", lambda x, **where: empty(x))
    monkeypatch.setattr(Tensor, "tolist", lambda x: (card.known(x), read(x))[1])
    for step in (1, 2, 3):
        told.of(step, torch.full((2,), float(step)), torch.ones(2))
        assert len(news) == step - 1, "the last step is not waited for"
    told.all()
    assert news == [(1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize(
    ("family", "blocks_that_fit"),
    [(FluxTransformer2DModel, 5), (FluxTransformer2DModel, 0), (Flux2Transformer2DModel, 2)],
)
def test_recorded_blocks_keep_what_fits_and_go_on_as_they_were_recorded(
    card: Gpu, monkeypatch: pytest.MonkeyPatch, family: type, blocks_that_fit: int
) -> None:
    """The recording itself fills the memory that was free before: the second step must not decide anew (at 1024x1024
    it left the recording idle, computed everything without it beside it, and the memory was too small for both)."""
    model, tokens = small(family=family)
    block = 16 if family is FluxTransformer2DModel else 22
    size = block * 4 * 2 * (15 + 8 + 7) * 16  # bytes of float32 of 2 x 30 tokens, 16 wide
    free, calls = [blocks_that_fit * size + 1], list[object]()
    monkeypatch.setattr(attention, "room", lambda device: free[0])
    hook = model.single_transformer_blocks[0].register_forward_pre_hook(lambda *call: calls.append(call))
    model.enable_gradient_checkpointing()

    def mass(context: Tensor) -> list[Tensor]:
        context = context.detach().clone().requires_grad_()
        value = token_context_mass(model, **{**tokens, "context": context}, blocks="all single")
        return [value.detach(), torch.autograd.grad(value.sum(), context)[0]]

    contexts = [tokens["context"] + number for number in range(2)]
    plain = [mass(context) for context in contexts]
    record_blocks(model)
    calls.clear()
    for context, expected in zip(contexts, plain, strict=True):
        for ours, theirs in zip(mass(context), expected, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)
        free[0] = 0
    recorded = vars(model)["recorded_blocks"]
    assert recorded.choice == {"kept": blocks_that_fit}
    assert not recorded.fails and len(recorded.idle) == 1
    again = 1 if blocks_that_fit > 2 else 2  # blocks double.0, double.1, single.0: is the third computed anew?
    assert len(calls) == (graphs.WARM_UP + 1) * again, "a recording is used again"
    mass(contexts[0][:, :7])
    assert recorded.choice == {"kept": 0}, "another size is another decision"
    hook.remove()


def test_what_recordings_keep_is_free_for_those_who_use_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    for name, value in {"memory_reserved": 70 * gib, "memory_allocated": 23 * gib}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9 * gib, 80 * gib))
    ours, others = Graphs(lambda x: x), Graphs(lambda x: x)
    for owner, size in ((ours, 35 * gib), (others, 7 * gib)):
        recording = object.__new__(graphs.Recording)
        recording.held = size
        owner.idle.append(recording)
        owner.made.add(recording)
    monkeypatch.setattr(graphs, "_recordings", [*ours.idle, *others.idle])
    limit = [1.0]
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: limit[0])
    device = torch.device("cuda")
    unused = 70 - 23 - 42
    assert memory.room(device) == pytest.approx(0.8 * (9 + unused) * gib)
    assert memory.room(device, ours) == pytest.approx(0.8 * (9 + unused + 35) * gib)
    assert memory.roomy(device, 38 * gib, ours) and not memory.roomy(device, 38 * gib)
    limit[0] = 0.9
    assert memory.room(device) == pytest.approx(0.8 * (2 + unused) * gib), "72 of 80 GiB are allowed, 70 are reserved"
