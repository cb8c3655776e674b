"""Attention measures against the published code's numbers, and against the attention matrix written out."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel, FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor, nn

from editproof.editors.attention import (
    KEPT,
    block_names,
    context_mass,
    slice_entropy,
    token_context_mass,
    token_slice_entropy,
)
from editproof.editors.blocks import Flux1, Flux2
from editproof.errors import UserError
from editproof.randomness import generators

FAMILIES = [FluxTransformer2DModel, Flux2Transformer2DModel]
GOLDEN = Path(__file__).parent / "golden"


def fill(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Every tensor from its own name: the golden files' rule."""
    filled = {}
    for name, tensor in state.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        value = torch.randn(tensor.shape, generator=generator) * scale
        filled[name] = 1 + value if tensor.ndim == 1 and not name.endswith("bias") else value
    return filled


def grid(first: int, height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.full_like(rows, first), rows, columns], -1).reshape(-1, 3).float()


@pytest.fixture(scope="module")
def golden_model() -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(**json.loads((GOLDEN / "decontext_config.json").read_text()))
    model.load_state_dict(fill(model.state_dict(), 0.15))
    return model.eval().requires_grad_(False)


FLUX2 = {"in_channels": 8, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "joint_attention_dim": 6,
         "num_attention_heads": 2, "timestep_guidance_channels": 16, "axes_dims_rope": (2, 2, 2, 2)}  # fmt: skip


def small(seed: int = 0, family: type = FluxTransformer2DModel, **more: object) -> tuple[nn.Module, dict]:
    """A model of 2 + 3 blocks, and tokens of two pictures of 5 x 3 with contexts of another size."""
    config = {
        "in_channels": 8,
        "num_layers": 2,
        "num_single_layers": 3,
        "attention_head_dim": 8,
        "joint_attention_dim": 6,
        "num_attention_heads": 2,
        "pooled_projection_dim": 4,
        "guidance_embeds": True,
        "axes_dims_rope": (2, 2, 4),
    }
    fourth = family is Flux2Transformer2DModel
    config = {**FLUX2, "guidance_embeds": True} if fourth else config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family(**{**config, **more}).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        tokens = {"target": torch.randn(2, 15, 8), "context": torch.randn(2, 8, 8), "text": torch.randn(2, 7, 6),
                  "pooled": torch.randn(2, 4), "target_ids": grid(0, 5, 3), "context_ids": grid(1, 2, 4),
                  "timestep": torch.tensor([0.98, 0.5]), "guidance": 3.5}  # fmt: skip
    if fourth:
        ids = {name: nn.functional.pad(tokens[name], (0, 1)) for name in ("target_ids", "context_ids")}
        tokens |= {"pooled": None, **ids}
    return model, tokens


def by_hand(model: nn.Module, tokens: dict) -> tuple[list[Tensor], Tensor]:
    """The attention matrices (B,heads,N,N) of every block of the shipped forward, in float64, and its output."""
    matrices = []
    softmax = torch.nn.functional.scaled_dot_product_attention

    def record(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
        matrices.append((query.double() @ key.double().mT / query.shape[-1] ** 0.5).softmax(-1))
        return softmax(query, key, value, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
        inputs = {
            "hidden_states": torch.cat([tokens["target"], tokens["context"]], 1),
            "encoder_hidden_states": tokens["text"], "timestep": tokens["timestep"],
            "img_ids": torch.cat([tokens["target_ids"], tokens["context_ids"]]),
            "guidance": None if tokens["guidance"] is None else torch.full((2,), tokens["guidance"]),
        }  # fmt: skip
        if isinstance(model, Flux2Transformer2DModel):
            inputs["txt_ids"] = Flux2KleinPipeline._prepare_text_ids(tokens["text"])
        else:
            inputs |= {"pooled_projections": tokens["pooled"], "txt_ids": torch.zeros(tokens["text"].shape[1], 3)}
        output = model(**inputs).sample
    return matrices, output


def test_the_mass_and_its_gradient_are_those_of_the_published_code(golden_model: FluxTransformer2DModel) -> None:
    golden = load_file(GOLDEN / "decontext.safetensors")
    context = golden["context"].requires_grad_()
    mass = token_context_mass(
        golden_model, golden["noise"], context, golden["text"], golden["pooled"], target_ids=grid(0, 32, 32),
        context_ids=grid(1, 32, 32), timestep=0.99, guidance=3.5, blocks="all single",
    )  # fmt: skip
    assert mass.shape == (1,)
    assert torch.allclose(mass, golden["proportion"], rtol=1e-4)
    gradient = torch.autograd.grad(mass.sum(), context)[0]
    assert (gradient - golden["grad_context"]).norm() < 1e-4 * golden["grad_context"].norm()


@pytest.mark.parametrize(
    "blocks", ["all single", "all double", "double.1", "single.0-1", ["double.0", "single.2"]], ids=str
)
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_mass_and_entropy_agree_with_the_attention_matrix(blocks: str | list[str], guided: bool, family: type) -> None:
    model, tokens = small(family=family, guidance_embeds=guided)
    tokens["guidance"] = 3.5 if guided else None
    matrices, _ = by_hand(model, tokens)
    numbers = [
        ("double.0", "double.1", "single.0", "single.1", "single.2").index(n) for n in block_names(model, blocks)
    ]
    target, context = slice(7, 22), slice(22, 30)
    mass = torch.stack([matrices[i][:, :, target, context].sum(-1).mean((1, 2)) for i in numbers]).mean(0)
    assert torch.allclose(token_context_mass(model, **tokens, blocks=blocks), mass.float(), rtol=1e-4)
    entropy = torch.zeros(2)
    for rows, columns in ((target, context), (context, target)):
        parts = [matrices[i][:, :, rows, columns] for i in numbers]
        entropy += torch.stack([-(a * a.log()).sum(-1).mean((1, 2)) for a in parts]).mean(0).float()
    assert torch.allclose(token_slice_entropy(model, **tokens, blocks=blocks), entropy, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch's compiler looks at it
@pytest.mark.parametrize("measure", [token_context_mass, token_slice_entropy])
@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_and_compiled_blocks_change_nothing(measure: Callable[..., Tensor], family: type) -> None:
    model, tokens = small(family=family)

    def value_and_gradient() -> tuple[Tensor, Tensor]:
        context = tokens["context"].clone().requires_grad_()
        value = measure(model, **{**tokens, "context": context}, blocks="double.1,single.0-1")
        return value, torch.autograd.grad(value.sum(), context)[0]

    plain = value_and_gradient()
    model.enable_gradient_checkpointing()
    checkpointed = value_and_gradient()
    model.disable_gradient_checkpointing()
    for block in [*model.transformer_blocks, *model.single_transformer_blocks]:
        block.compile(backend="eager")
    compiled = value_and_gradient()
    model.enable_gradient_checkpointing()
    for other in (checkpointed, compiled, value_and_gradient()):
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_block_keeps_is_what_the_memory_is_reckoned_by(family: type, kind: torch.dtype) -> None:
    """Bytes that are saved for the backward pass, of one more block of each kind: never more than reckoned with. On an
    H100, FLUX.1 at 512x512 kept 15.6 values of each token, times its width, workspace included."""
    width, few = 64, {"attention_head_dim": 32, "num_attention_heads": 2, "in_channels": 8, "joint_attention_dim": 64}
    few |= {"axes_dims_rope": (4, 12, 16)} if family is FluxTransformer2DModel else {"axes_dims_rope": (8, 8, 8, 8)}

    def saved(doubles: int, singles: int) -> float:
        model, tokens = small(family=family, num_layers=doubles, num_single_layers=singles, **few)
        inputs = {name: value for name, value in tokens.items() if name not in ("text", "context")}
        context, text = torch.randn(2, 8, 8, requires_grad=True), torch.randn(2, 7, 64)
        known = {p.untyped_storage().data_ptr() for p in model.to(dtype=kind).parameters()}
        kept = dict[int, Tensor]()

        def keep(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            token_context_mass(model, **inputs, context=context, text=text, blocks="all single")
        return sum(x.untyped_storage().nbytes() for place, x in kept.items() if place not in known)

    unit = 2 * (15 + 8 + 7) * width * kind.itemsize
    for more in ((2, 0), (0, 2)):
        values = (saved(1 + more[0], 2 + more[1]) - saved(1, 2)) / 2 / unit
        reckoned = KEPT[Flux1 if family is FluxTransformer2DModel else Flux2]
        assert 0.5 * reckoned < values <= reckoned


def test_an_image_does_not_depend_on_its_batch() -> None:
    model, tokens = small()
    alone = {name: value[1:] if name in ("target", "context", "text", "pooled", "timestep") else value
             for name, value in tokens.items()}  # fmt: skip
    for measure in (token_context_mass, token_slice_entropy):
        assert torch.allclose(
            measure(model, **tokens, blocks="all single")[1:], measure(model, **alone, blocks="all single")
        )


def test_the_forward_ends_with_the_last_block_needed_and_leaves_nothing_behind() -> None:
    model, tokens = small()
    ran: list[str] = []
    before, attributes = by_hand(model, tokens)[1], {n: set(m.__dict__) for n, m in model.named_modules()}

    class BoomError(Exception):
        pass

    def fails(module: nn.Module, arguments: object) -> None:
        raise BoomError

    handles = [block.register_forward_pre_hook(lambda m, a, i=i: ran.append(f"single.{i}"))
               for i, block in enumerate(model.single_transformer_blocks)]  # fmt: skip
    token_context_mass(model, **tokens, blocks="single.1")
    assert ran == ["single.0"]  # of the last block only queries and keys are needed
    handles.append(model.single_transformer_blocks[0].register_forward_pre_hook(fails))
    with pytest.raises(BoomError):
        token_context_mass(model, **tokens, blocks="single.1")
    for handle in handles:
        handle.remove()
    assert torch.equal(by_hand(model, tokens)[1], before)
    assert attributes == {name: set(module.__dict__) for name, module in model.named_modules()}


def test_blocks_that_do_not_exist() -> None:
    model, tokens = small()
    assert block_names(model, "single.0, double.1,single.0") == ["double.1", "single.0"]
    for blocks in ("single.3", "triple.0", "single.1-3", "single.2-1", "all", "", ["double.2"]):
        with pytest.raises(UserError, match=r"double\.0 to double\.1 and single\.0 to single\.2"):
            token_context_mass(model, **tokens, blocks=blocks)


# An editor's photos


@pytest.mark.parametrize("name", ["flux-kontext", "flux2-klein"])
def test_the_mass_on_a_photo_is_that_of_the_shipped_pipelines_first_step(tiny_editor: Callable, name: str) -> None:
    editor, wide = tiny_editor(name), tiny.pictures(2, 24, 56)
    images = wide.clone().requires_grad_()
    calls: list[dict] = []  # klein calls once for each photo
    handle = editor.denoiser.register_forward_pre_hook(lambda m, a, named: calls.append(named), with_kwargs=True)
    editor.sample(wide, ["a red hat", "snow"], steps=1, generator=generators(3, 2))
    handle.remove()
    n, masses = 3 * 7, []
    for named in calls:
        assert named["hidden_states"].shape[1] == 2 * n
        ids = named["img_ids"].flatten(0, -2)
        masses.append(
            token_context_mass(
                editor.denoiser, named["hidden_states"][:, :n], named["hidden_states"][:, n:],
                named["encoder_hidden_states"], named.get("pooled_projections"), target_ids=ids[:n],
                context_ids=ids[n:], timestep=named["timestep"], guidance=named["guidance"], blocks="all single",
            )
        )  # fmt: skip
    by_pipeline = torch.cat(masses)
    settings = {"blocks": "all single", "timestep": 1.0}
    mass = context_mass(editor, images, ["a red hat", "snow"], **settings, generator=generators(3, 2))
    assert torch.allclose(mass, by_pipeline, rtol=1e-5)
    assert ((mass > 0) & (mass < 1)).all()
    assert torch.autograd.grad(mass.sum(), images)[0].abs().amax((1, 2, 3)).min() > 0
    alone = context_mass(editor, wide[1:], "snow", **settings, generator=generators(3, 1))
    assert torch.allclose(mass[1:], alone, rtol=1e-5)


@pytest.mark.parametrize("name", ["flux-kontext", "flux2-klein"])
def test_an_edit_may_start_from_the_noised_photo(tiny_editor: Callable, name: str) -> None:
    editor, image, calls = tiny_editor(name), tiny.pictures(1, 24, 56), []
    handle = editor.denoiser.register_forward_pre_hook(lambda m, a, named: calls.append(named), with_kwargs=True)
    editor.sample(image, "snow", steps=4, strength=0.5, generator=generators(3, 1))
    handle.remove()
    levels, tokens = editor.noise_levels(image, 4)[2:], editor.tokens(image, "snow", generators(3, 1))
    assert [named["timestep"].item() for named in calls] == pytest.approx(levels, abs=1e-5)
    start = levels[0] * tokens.target + (1 - levels[0]) * tokens.context
    assert torch.allclose(calls[0]["hidden_states"], torch.cat([start, tokens.context], dim=1), atol=1e-5)


@pytest.mark.parametrize("name", ["flux-kontext", "flux2-klein"])
def test_the_canvas_of_the_entropy_is_the_noised_photo(tiny_editor: Callable, name: str) -> None:
    editor, images = tiny_editor(name), tiny.pictures().requires_grad_()
    tokens = editor.tokens(images, "", generators(0, 2))
    value = slice_entropy(editor, images, blocks="double.0", timestep=0.25, generator=generators(0, 2))
    by_hand = token_slice_entropy(
        editor.denoiser, 0.75 * tokens.context + 0.25 * tokens.target, *tokens[1:4], target_ids=tokens.target_ids,
        context_ids=tokens.context_ids, timestep=0.25, guidance=editor.guidance, blocks="double.0",
    )  # fmt: skip
    assert torch.allclose(value, by_hand, rtol=1e-5)
    assert torch.autograd.grad(value.sum(), images)[0].abs().amax((1, 2, 3)).min() > 0


def test_an_editor_without_context_tokens(tiny_editor: Callable) -> None:
    for measure in (context_mass, slice_entropy):
        with pytest.raises(UserError, match="sd-inpaint does not read the photo as tokens"):
            measure(
                tiny_editor("sd-inpaint"),
                tiny.pictures(),
                blocks="all single",
                timestep=1.0,
                generator=generators(0, 2),
            )
