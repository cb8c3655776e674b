"""Recorded kernels and weights that are copied beside the computing, on the stand-in for a GPU of fake_gpu.py."""

from collections import deque
from collections.abc import Iterator

import pytest
import torch
from fake_gpu import Gpu, Race, Stream, gpu
from torch import Tensor, nn

from editproof.editors.speed import graphs, streaming
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
