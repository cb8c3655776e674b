"""What reaches an edit through attention, in transformers that denoise [target | context] tokens (FLUX and its kin).

The shipped blocks are called one by one with what the shipped model gives them, and queries and keys are computed
beside them. So nothing is hooked, replaced or left behind, compiled blocks stay compiled, the forward ends with the
last block that is asked for, and gradient checkpointing covers each block together with what is measured there.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from editproof.editors.blocks import Flux1, Flux2, Tokens, family
from editproof.editors.speed.graphs import Graphs, without_cudnn
from editproof.editors.speed.memory import room
from editproof.errors import UserError
from editproof.randomness import Generators
from editproof.surroundings import undisturbed

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor, Prompt

Blocks = str | Sequence[str]
Ranges = dict[str, slice]  # which tokens are "text", "target" and "context"
Measure = Callable[[Tensor, Tensor, Ranges], Tensor]  # queries, keys (B,heads,N,d) -> (B,)
SLICES = (("target", "context"), ("context", "target"))
KEPT = {Flux1: 16, Flux2: 22}  # values that a block keeps for the backward pass, of each token, times its width
CHUNK = 128  # queries whose attention rows are held at once where rows are needed


class Wanted(NamedTuple):
    """What is to be found out: the blocks to look into, in the model's order, and what is measured in each.

    compiled: with torch.compile.
    """

    blocks: tuple[str, ...]
    measure: Measure
    compiled: bool = False


@undisturbed
def context_mass(
    editor: "Editor",
    images: Tensor,
    prompt: "Prompt" = "",
    *,
    blocks: Blocks,
    timestep: float | Tensor,
    generator: Generators,
    guidance: float | None = None,
    compiled: bool = False,
) -> Tensor:
    """The share of attention `(B,)` in [0,1] that the edit pays to each of images (B,3,H,W) in [0,1]; differentiable.

    The edit is pure noise, drawn from `generator` (one per image), as DeContext has it (arXiv 2512.16625). See
    `token_context_mass` for the rest; guidance: the editor's own if None; compiled: with torch.compile.
    """
    guidance = editor.guidance if guidance is None else guidance
    tokens = editor.tokens(images, prompt, generator, timestep)
    return _mean_over_blocks(editor.denoiser, tokens, timestep, guidance, blocks, _mass, compiled)


@undisturbed
def slice_entropy(
    editor: "Editor",
    images: Tensor,
    prompt: "Prompt" = "",
    *,
    blocks: Blocks,
    timestep: float | Tensor,
    generator: Generators,
    guidance: float | None = None,
    same_positions: bool = False,
) -> Tensor:
    """The entropy `(B,)` of attention between the edit and each of images (B,3,H,W) in [0,1]; differentiable.

    The edit is the photo itself, noised: (1 - timestep) x its latents + timestep x noise, as VETO has it
    (arXiv 2607.27292); gradients go through both its places. same_positions: the photo's tokens
    have the edit's positions, instead of the editor's own. See `token_slice_entropy`.
    """
    guidance = editor.guidance if guidance is None else guidance
    tokens = editor.tokens(images, prompt, generator, timestep)
    level = _per_image(timestep, tokens.target, tokens.target.dtype).reshape(-1, 1, 1)
    tokens = tokens._replace(target=torch.lerp(tokens.context, tokens.target, level))
    if same_positions:
        tokens = tokens._replace(context_ids=tokens.target_ids)
    return _mean_over_blocks(editor.denoiser, tokens, timestep, guidance, blocks, Entropy(SLICES))


@undisturbed
def token_context_mass(
    transformer: nn.Module,
    target: Tensor,
    context: Tensor,
    text: Tensor,
    pooled: Tensor | None,
    *,
    target_ids: Tensor,
    context_ids: Tensor,
    timestep: float | Tensor,
    guidance: float | None,
    blocks: Blocks,
    compiled: bool = False,
) -> Tensor:
    """The softmax mass `(B,)` in [0,1] that target queries put on context keys: mean over heads, queries and blocks.

    transformer: a FluxTransformer2DModel or Flux2Transformer2DModel. target (B,N,C), context (B,M,C): packed latents;
    text (B,T,D), pooled (B,P): embeddings of the prompt (FLUX.2 has no pooled one). target_ids (N,A), context_ids
    (M,A): positions, with 3 axes (FLUX.2: 4). timestep: noise level in [0,1], one or
    `(B,)`. guidance: for models that embed it. blocks: names such as `single.0` and `double.3`, ranges such as
    `single.0-25`, `all single`, `all double`, as a list or with commas. float32, differentiable with respect to
    `context`. compiled: with torch.compile. Raises UserError for blocks that the transformer does not
    have.
    """
    tokens = Tokens(target, context, text, pooled, target_ids, context_ids)
    return _mean_over_blocks(transformer, tokens, timestep, guidance, blocks, _mass, compiled)


@undisturbed
def token_slice_entropy(
    transformer: nn.Module,
    target: Tensor,
    context: Tensor,
    text: Tensor,
    pooled: Tensor | None,
    *,
    target_ids: Tensor,
    context_ids: Tensor,
    timestep: float | Tensor,
    guidance: float | None,
    blocks: Blocks,
    slices: Sequence[tuple[str, str]] = SLICES,
) -> Tensor:
    """The entropy `(B,)` of slices of the attention matrix in nats per query: -sum(a log a) over the slice's keys,

    mean over heads, queries and blocks, summed over `slices`: pairs (whose queries, whose keys) of `text`, `target` and
    `context`. a is the softmax over all keys, not renormalised within the slice. The other arguments are those of
    `token_context_mass`. No fused kernel gives this with a gradient, so CHUNK rows of the matrix exist at a time.
    """
    tokens = Tokens(target, context, text, pooled, target_ids, context_ids)
    return _mean_over_blocks(transformer, tokens, timestep, guidance, blocks, Entropy(tuple(slices)))


def block_names(transformer: nn.Module, blocks: Blocks) -> list[str]:
    """The blocks asked for, by name, in the model's order; UserError if one does not exist or none is named."""
    there = [name for name, _ in _named_blocks(transformer)]
    wanted: set[str] = set()
    for text in blocks.split(",") if isinstance(blocks, str) else blocks:
        kind, _, numbers = text.strip().partition(".")
        if text.strip() in ("all single", "all double"):
            found = {name for name in there if name.startswith(text.split()[-1])}
        elif re.fullmatch(r"\d+-\d+", numbers):
            first, last = map(int, numbers.split("-"))
            found = {f"{kind}.{number}" for number in range(first, last + 1)}
        else:
            found = {text.strip()}
        if not found or not found <= set(there):
            missing = ", ".join(sorted(found - set(there))) or repr(text)
            counts = [sum(name.startswith(kind) for name in there) for kind in ("double", "single")]
            raise UserError(
                f"no block {missing} in this editor: it has double.0 to double.{counts[0] - 1} and single.0 to "
                f"single.{counts[1] - 1}, and 'all double', 'all single'"
            )
        wanted |= found
    return [name for name in there if name in wanted]


def _named_blocks(transformer: Any) -> Iterator[tuple[str, nn.Module]]:
    for kind, group in (("double", transformer.transformer_blocks), ("single", transformer.single_transformer_blocks)):
        yield from ((f"{kind}.{number}", block) for number, block in enumerate(group))


def _mean_over_blocks(
    model: Any,
    tokens: Tokens,
    timestep: float | Tensor,
    guidance: float | None,
    blocks: Blocks,
    measure: Measure,
    compiled: bool = False,
) -> Tensor:
    """The model's forward up to the last of `blocks`, and the mean over `blocks` of what is measured in each: (B,)."""
    wanted = Wanted(tuple(block_names(model, blocks)), measure, compiled)
    strength = None
    if model.config.guidance_embeds:
        if guidance is None:
            raise UserError("this transformer embeds the guidance: give one")
        strength = _per_image(guidance, tokens.target, model.dtype) * 1000
    pooled = None if tokens.pooled is None else tokens.pooled.to(model.dtype)
    target, context, text = (x.to(model.dtype) for x in (tokens.target, tokens.context, tokens.text))
    places = ((target, tokens.target_ids), (context, tokens.context_ids))
    ids = (ids.reshape(-1, ids.shape[-1])[: x.shape[1]] for x, ids in places)
    times = _per_image(timestep, tokens.target, model.dtype) * 1000
    inputs: Any = model, wanted, Tokens(target, context, text, pooled, *ids), times, strength
    recorded = vars(model).get("recorded_blocks")
    return recorded(*inputs) if recorded else _through_blocks(*inputs, **_memory(*inputs))


def record_blocks(transformer: nn.Module) -> None:
    """Record what is measured in this model's blocks, see graphs.py."""
    vars(transformer)["recorded_blocks"] = Graphs(_through_blocks, choose=_memory)


def _memory(model: Any, wanted: Wanted, tokens: Tokens, *more: Tensor | None) -> dict[str, Any]:
    """How many blocks can keep what their backward pass needs, as an argument of `_through_blocks`.

    All, but for models that spare memory: as many as the device has room for; and none whose weights are streamed,
    since what is kept for a layer would keep its weights.
    """
    blocks = [name for name, _ in _named_blocks(model)].index(wanted.blocks[-1]) + 1
    if not (torch.is_grad_enabled() and model.gradient_checkpointing):
        return {"kept": blocks}
    if any(parameter.is_meta for parameter in model.parameters()):
        return {"kept": 0}
    weight, number = model.x_embedder.weight, sum(x.shape[1] for x in tokens[:3]) * len(tokens.target)
    size = KEPT[family(model)] * number * len(weight) * weight.itemsize
    return {"kept": min(blocks, int(room(weight.device) / size))}


def _through_blocks(
    model: Any, wanted: Wanted, tokens: Tokens, times: Tensor, strength: Tensor | None, *, kept: int
) -> Tensor:
    """The same as _mean_over_blocks, all of it tensors on the model's device, so that it can be recorded.

    times, strength: noise level and guidance (B,), times 1000. kept: of so many blocks, the first ones, everything is
    kept for the backward pass; the others are computed anew there.
    """
    words, target, context = tokens.text, tokens.target, tokens.context
    forward = family(model)(model, times, strength, tokens.pooled, words, torch.cat(tokens[4:]))
    ends = list(accumulate((x.shape[1] for x in (words, target, context)), initial=0))
    ranges = {name: slice(*ends[i : i + 2]) for i, name in enumerate(("text", "target", "context"))}
    words, image = model.context_embedder(words), model.x_embedder(torch.cat([target, context], dim=1))
    if wanted.compiled and torch.is_grad_enabled():
        words = words.detach().requires_grad_()  # so that the first block is compiled with the others

    values = []
    for number, (name, block) in enumerate(_named_blocks(model)):
        look = Look(wanted.measure if name in wanted.blocks else None, ranges, name == wanted.blocks[-1])
        step = _compiled_step() if wanted.compiled and not look.last else _step
        arguments = step, forward, block, name.partition(".")[0], words, image, look
        if number < kept:
            words, image, value = without_cudnn(*arguments)
        else:
            words, image, value = checkpoint(without_cudnn, *arguments, use_reentrant=False, preserve_rng_state=False)
        if value is not None:
            values.append(value)
        if look.last:
            break
    return torch.stack(values).mean(0)


class Look(NamedTuple):
    """What a block is asked for; of the last one, not what it passes on."""

    measure: Measure | None
    ranges: Ranges
    last: bool


def _step(
    forward: Any, block: nn.Module, kind: str, words: Tensor, image: Tensor, look: Look
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One block: its output, unless it is the last one that is asked for, and what is measured in it, if anything."""
    from diffusers.models.embeddings import apply_rotary_emb

    pair, before, compiling = None, (words, image), torch.compiler.is_compiling()
    if not look.last:
        with nullcontext() if look.measure is None or compiling else Seen() as seen:
            words, image = forward(block, kind, words, image)
        if compiling:  # which wants the same strides from every block
            words, image = (tokens.clone(memory_format=torch.contiguous_format) for tokens in (words, image))
        pair = seen.pair if seen is not None else None
    if look.measure is None:
        return words, image, None
    if pair is None:
        found = forward.queries_and_keys(block, kind, *before)
        pair = tuple(apply_rotary_emb(tokens, forward.rope, sequence_dim=1).transpose(1, 2) for tokens in found)
    return words, image, look.measure(pair[0], pair[1], look.ranges)


class Seen(TorchFunctionMode):
    """Sees the queries and keys (B,heads,N,d) that a block gives to PyTorch's attention, if it uses that."""

    pair: tuple[Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            named = kwargs or {}
            pair = (*args, *(named[name] for name in ("query", "key")[len(args) :] if name in named))[:2]
            self.pair = (pair[0], pair[1])
        return func(*args, **(kwargs or {}))


@cache
def _compiled_step() -> Any:
    """The same, compiled once for all blocks of a kind; queries and keys are then computed once."""
    return torch.compile(_step, dynamic=False)


def _mass(queries: Tensor, keys: Tensor, ranges: Ranges) -> Tensor:
    """One fused attention call that collects 1 from context keys and 0 from the others."""
    collected = torch.zeros_like(keys)
    collected[:, :, ranges["context"]] = 1
    mass = F.scaled_dot_product_attention(queries[:, :, ranges["target"]], keys, collected)
    return mass[..., 0].float().mean((1, 2))


@dataclass(frozen=True)
class Entropy:
    """The sum over slices of the attention matrix of `_entropy`."""

    slices: tuple[tuple[str, str], ...]

    def __call__(self, queries: Tensor, keys: Tensor, ranges: Ranges) -> Tensor:
        return sum((_entropy(queries[:, :, ranges[a]], keys, ranges[b]) for a, b in self.slices), torch.zeros(()))


def _entropy(queries: Tensor, keys: Tensor, columns: slice) -> Tensor:
    """-sum(a log a) over the keys in `columns`, mean over heads and queries: (B,)."""

    def total(rows: Tensor, keys: Tensor) -> Tensor:
        logits = rows.float() @ keys.float().mT / rows.shape[-1] ** 0.5
        logs = logits.log_softmax(-1)[..., columns]
        return -(logs.exp() * logs).sum((1, 2, 3))

    chunks = queries.split(CHUNK, dim=2)
    sums = [checkpoint(total, rows, keys, use_reentrant=False, preserve_rng_state=False) for rows in chunks]
    return torch.stack(sums).sum(0) / (queries.shape[1] * queries.shape[2])


def _per_image(value: float | Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """(B,) where the batch `like` (B,...) is."""
    if not isinstance(value, Tensor):
        return torch.full((len(like),), value, device=like.device, dtype=dtype)
    return value.to(like.device, dtype).expand(len(like))
