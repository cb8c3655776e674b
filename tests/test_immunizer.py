"""NestedUNet agrees with the authors' network on weights that are filled from each tensor's own name (tests/golden)."""

import functools
import json
import zlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from editproof.errors import UserError
from editproof.immunizer.network import NestedUNet, load_immunizer, perturb, save_immunizer, trained_size

GOLDEN = Path(__file__).parent / "golden"
SMALL = (4, 8, 16)


def fill(network: torch.nn.Module, scale: float) -> None:
    """Fills every tensor from its own name: the rule that the golden numbers were made with."""
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        x = torch.randn(value.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))) * scale
        if name.endswith("running_var"):
            x = 1 + x.abs()
        elif value.ndim == 1 and not name.endswith("bias"):
            x = 1 + x
        value.copy_(x)


def small(in_channels: int = 4, batch_norm: str = "stored") -> NestedUNet:
    network = NestedUNet(in_channels=in_channels, depths=SMALL, batch_norm=batch_norm)
    fill(network, 0.2)
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.sub_(1)  # a mean of 1 would leave every ReLU dead
    return network.eval()


def photos(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_keys_shapes_and_parameters() -> None:
    network = NestedUNet()
    keys = json.loads((GOLDEN / "nested_unet_keys.json").read_text())
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == keys
    assert sum(p.numel() for p in network.parameters()) == 9_163_395


def test_golden_output() -> None:
    golden = load_file(GOLDEN / "nested_unet.safetensors")
    network = NestedUNet().eval()
    fill(network, 0.05)
    with torch.inference_mode():
        output = network(golden["input"])
    assert (output - golden["output"]).abs().max() <= 1e-4 * golden["output"].abs().max()


def test_blocks_are_connected_as_the_paper_defines() -> None:
    """x(i,j) = H([x(i,0) .. x(i,j-1), up(x(i+1,j-1))]), x(i,0) = H(pool(x(i-1,0))); the golden numbers do not show it:
    with a stored mean of about 1 nearly no ReLU passes anything, and their output is a constant."""
    network, images = small(), photos(2, 4, 16, 24)

    @functools.cache
    def x(i: int, j: int) -> torch.Tensor:
        if j == 0:
            inputs = images if i == 0 else F.max_pool2d(x(i - 1, 0), 2)
        else:
            up = F.interpolate(x(i + 1, j - 1), scale_factor=2, mode="bilinear", align_corners=True)
            inputs = torch.cat([*(x(i, k) for k in range(j)), up], 1)
        return network.get_submodule(f"conv{i}_{j}")(inputs)

    output = network(images)
    torch.testing.assert_close(output, network.final(x(0, len(SMALL) - 1)))
    assert output.std() > 1e-3
    block = network.get_submodule("conv1_0")
    inputs = photos(1, 4, 8, 8)
    for conv, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        inputs = torch.relu(F.batch_norm(conv(inputs), norm.running_mean, norm.running_var, norm.weight, norm.bias))
    torch.testing.assert_close(block(photos(1, 4, 8, 8)), inputs)


@pytest.mark.parametrize("training", [True, False])
def test_photo_statistics_are_batch_norm_on_each_photo_alone(training: bool) -> None:
    """In a batch each photo gets what BatchNorm in training mode gives it alone; nothing is stored."""
    images = photos(3, 4, 16, 24) * 2 - 1
    alone = small().train()
    expected = torch.cat([alone(image[None]) for image in images])
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    output = network.train(training).use_batch_norm("photo")(images)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not torch.allclose(network.eval().use_batch_norm("stored")(images), expected, atol=1e-3)


@torch.no_grad()
def test_the_number_of_threads_changes_no_bit() -> None:
    """PyTorch's own 1x1 convolution of a few outputs, which the network ends with, is rounded otherwise."""
    network, images, threads, made = small().use_batch_norm("photo"), photos(1, 4, 64, 64), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            made.append(network(images))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    torch.testing.assert_close(made[0], network.requires_grad_().final(_before_final(network, images)))


def _before_final(network: NestedUNet, images: torch.Tensor) -> torch.Tensor:
    """What the last convolution is given."""
    given = []
    with torch.enable_grad():  # so that it is called as a module
        hook = network.final.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0].detach()))
        network(images)
    hook.remove()
    return given[0]


def test_traces_without_graph_breaks_and_keeps_channels_last() -> None:
    network = small().to(memory_format=torch.channels_last)
    images = photos(2, 4, 16, 16).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), network(images))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images)
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(32, 32), (17, 30), (3, 5)])
@pytest.mark.parametrize("in_channels", [3, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_perturb_keeps_size_bound_and_mask(size: tuple[int, int], in_channels: int, masked: bool) -> None:
    network = small(in_channels)
    images = photos(2, 3, *size).requires_grad_()
    mask = torch.zeros(2, 1, *size)
    mask[..., size[1] // 2 :] = 1
    delta = perturb(network, images, mask if masked else None, eps=8 / 255)
    assert delta.shape == images.shape
    assert 0 < delta.abs().max() <= 8 / 255
    assert not masked or not (delta * mask).any()
    delta.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_grey_photo_stays_grey_beside_one_with_colours() -> None:
    both = photos(2, 3, 24, 24)
    both[:1] = both[:1, :1]
    with torch.inference_mode():
        delta, unbounded = perturb(small(), both, eps=8 / 255), perturb(small(), both)
    assert torch.equal(delta[0, 0], delta[0, 1]) and torch.equal(delta[0, 0], delta[0, 2]) and delta[0].abs().max() > 0
    assert not torch.equal(delta[1, 0], delta[1, 1])
    assert not torch.equal(unbounded[0, 0], unbounded[0, 1])  # DiffVax's own has no such rule


def test_perturb_shows_the_network_what_its_kind_sees() -> None:
    """3 channels: the photo with the edit region at mid-grey. 4 channels: the whole photo and the mask's channel."""
    images, mask = photos(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    mask[:, :, :8] = 1
    authors, ours = small(3), small(4)
    torch.testing.assert_close(perturb(authors, images, mask), authors((images * 2 - 1) * (1 - mask)) / 2 * (1 - mask))
    whole = torch.cat([images * 2 - 1, 1 - 2 * mask], 1)
    torch.testing.assert_close(perturb(ours, images, mask, 0.1), 0.1 * torch.tanh(ours(whole)) * (1 - mask))
    unknown = torch.cat([images * 2 - 1, 0 * mask], 1)
    torch.testing.assert_close(perturb(ours, images, None, 0.1), 0.1 * torch.tanh(ours(unknown)))


@pytest.mark.parametrize("kind", ["folder", "file", "pth"])
def test_weights_round_trip(tmp_path: Path, kind: str) -> None:
    network = small()
    network.trained_eps, network.size = 8 / 255, 48
    save_immunizer(network, tmp_path, steps=3)
    torch.save(network.state_dict(), tmp_path / "authors.pth")
    path = {"folder": tmp_path, "file": tmp_path / "model.safetensors", "pth": tmp_path / "authors.pth"}[kind]
    loaded = load_immunizer(path)
    assert not loaded.training
    assert loaded.depths == SMALL
    assert loaded.in_channels == 4
    expected = ("photo", None, 512) if kind == "pth" else ("stored", 8 / 255, 48)
    assert (loaded.batch_norm, loaded.trained_eps, loaded.size) == expected
    assert trained_size(path) == loaded.size
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_weights_in_fewer_bits_are_loaded_as_float32(tmp_path: Path, bits: int) -> None:
    network = NestedUNet(depths=(16, 32), batch_norm="photo")
    save_immunizer(network, tmp_path, bits=bits)
    size, kernel = (tmp_path / "model.safetensors").stat().st_size, "conv0_1.conv1.weight"
    assert size < 1.3 * bits / 8 * sum(p.numel() for p in network.parameters())
    expected = {8: torch.int8, 16: torch.float16, 32: torch.float32}[bits]
    assert load_file(tmp_path / "model.safetensors")[kernel].dtype == expected
    loaded = load_immunizer(tmp_path)
    assert loaded.final.weight.dtype == loaded.state_dict()[kernel].dtype == torch.float32
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (perturb(n.eval(), images, None, 8 / 255) for n in (network, loaded))
    assert (first - second).abs().mean() < {8: 0.05, 16: 1e-3, 32: 1e-9}[bits] * first.abs().mean()


def test_other_bits_give_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bits is 4; allowed: 8, 16 or 32"):
        save_immunizer(small(), tmp_path / "weights", bits=4)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("content", [None, b"", b"not weights", "other"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".png"])
def test_bad_weights_give_one_line(tmp_path: Path, content: bytes | str | None, suffix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "other":
        torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(UserError) as error:
        load_immunizer(file)
    reason = "not a NestedUNet state dict"
    if content is None:
        reason = "no such file; allowed are a .safetensors, a .pth or a training's folder"
    assert str(error.value) == f"weights {str(file)!r}: {reason}"


@pytest.mark.parametrize("change", [{"size": "big"}, {"size": 3}, {"eps": -1}, {"batch_norm": "none"}, None], ids=str)
def test_a_bad_config_gives_one_line(tmp_path: Path, change: dict[str, object] | None) -> None:
    save_immunizer(small(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text("[" if change is None else json.dumps({**config, **change}))
    for load in (load_immunizer, trained_size):
        with pytest.raises(UserError, match=r"config\.json' is not one that `editproof train` writes"):
            load(tmp_path)


def test_a_photo_of_one_value_in_the_lowest_level_gives_one_line() -> None:
    with pytest.raises(UserError, match="4 x 3 pixels; allowed: more than 4 along one side"):
        perturb(small(batch_norm="photo"), photos(2, 3, 3, 4))
    assert perturb(small(batch_norm="photo"), photos(2, 3, 3, 5)).shape == (2, 3, 3, 5)


def test_no_memory_is_no_fault_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path) -> None:
        raise MemoryError

    save_immunizer(NestedUNet(depths=[4, 8], batch_norm="photo"), tmp_path / "w")
    monkeypatch.setattr("editproof.immunizer.network.load_file", full)
    with pytest.raises(MemoryError):
        load_immunizer(tmp_path / "w")
