"""Step1X-Edit's model (arXiv 2504.17761): a FLUX transformer whose text tokens come from a connector over Qwen2.5-VL.

The published checkpoints are read in their own naming. The blocks are diffusers' own: FluxTransformer2DModel without
guidance embedding, and HunyuanVideoTokenRefiner in the connector.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from diffusers import ConfigMixin, FluxTransformer2DModel, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTokenRefiner
from torch import Tensor, nn

from editproof.errors import UserError

VERSIONS = ("v1.0", "v1.1")
REFINER_HEAD = 128  # width of a head of the connector's attention

# Published name -> diffusers' name; a name with several targets holds them one below the other.
STREAMS = (
    ("img", "", "to_{}", "norm_{}", "to_out.0"),
    ("txt", "_context", "add_{}_proj", "norm_added_{}", "to_add_out"),
)
DOUBLE = {
    f"{kind}_{old}": new
    for kind, suffix, project, norm, out in STREAMS
    for old, new in {
        "mod.lin": f"norm1{suffix}.linear",
        "attn.qkv": "|".join(f"attn.{project.format(x)}" for x in "qkv"),
        "attn.norm.query_norm": f"attn.{norm.format('q')}",
        "attn.norm.key_norm": f"attn.{norm.format('k')}",
        "attn.proj": f"attn.{out}",
        "mlp.0": f"ff{suffix}.net.0.proj",
        "mlp.2": f"ff{suffix}.net.2",
    }.items()
}
SINGLE = {
    "linear1": "attn.to_q|attn.to_k|attn.to_v|proj_mlp",
    "linear2": "proj_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "modulation.lin": "norm.linear",
}
REFINER_BLOCK = {
    "norm1": "norm1",
    "self_attn_qkv": "attn.to_q|attn.to_k|attn.to_v",
    "self_attn_proj": "attn.to_out.0",
    "norm2": "norm2",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm_out.linear",
}
REFINER = {
    "input_embedder": "proj_in",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "c_embedder.linear_1": "time_text_embed.text_embedder.linear_1",
    "c_embedder.linear_2": "time_text_embed.text_embedder.linear_2",
}
TOP = {
    "img_in": "flux.x_embedder",
    "txt_in": "flux.context_embedder",
    "time_in.in_layer": "flux.time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "flux.time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "flux.time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "flux.time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "flux.proj_out",
    "final_layer.adaLN_modulation.1": "flux.norm_out.linear",
    "connector.global_proj_out": "connector.pooled",
    **{f"connector.S.{old}": f"connector.refiner.{new}" for old, new in REFINER.items()},
}
GROUPS = (  # blocks in the published naming, in ours, and the table of what is inside
    ("double_blocks.", "flux.transformer_blocks.", DOUBLE),
    ("single_blocks.", "flux.single_transformer_blocks.", SINGLE),
    ("connector.S.individual_token_refiner.blocks.", "connector.refiner.token_refiner.refiner_blocks.", REFINER_BLOCK),
)


class Connector(nn.Module):
    """Text tokens and a pooled vector for the transformer, of what the language model has read."""

    def __init__(self, llm_dim: int, text_dim: int, pooled_dim: int, layers: int, scaled: bool) -> None:
        super().__init__()
        self.refiner = HunyuanVideoTokenRefiner(
            llm_dim, max(1, text_dim // REFINER_HEAD), min(text_dim, REFINER_HEAD), layers
        )
        self.pooled = nn.Linear(llm_dim, pooled_dim)
        self.scale_factor = nn.Parameter(torch.zeros(1)) if scaled else None  # v1.0 only

    def forward(self, llm_hidden: Tensor, timestep: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B,T,text_dim) and pooled (B,pooled_dim) of llm_hidden (B,T,llm_dim), timestep (B,) in [0,1] and mask
        (B,T), 1 where there is text."""
        weights = mask.to(llm_hidden)[..., None]
        mean = (llm_hidden * weights).sum(1) / weights.sum(1)
        if self.scale_factor is not None:
            mean = mean * (1 + self.scale_factor)
        return self.refiner(llm_hidden, timestep.to(llm_hidden) * 1000, mask), self.pooled(mean)


class Step1XTransformer(ModelMixin, ConfigMixin):
    """Connector and transformer; `flux` is the part that attention is measured in."""

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        version: str = "v1.1",
        in_channels: int = 64,
        num_layers: int = 19,
        num_single_layers: int = 38,
        attention_head_dim: int = 128,
        num_attention_heads: int = 24,
        llm_dim: int = 3584,
        text_dim: int = 4096,
        pooled_dim: int = 768,
        refiner_layers: int = 2,
    ) -> None:
        super().__init__()
        self.connector = Connector(llm_dim, text_dim, pooled_dim, refiner_layers, version == "v1.0")
        self.flux = FluxTransformer2DModel(
            in_channels=in_channels, num_layers=num_layers, num_single_layers=num_single_layers,
            attention_head_dim=attention_head_dim, num_attention_heads=num_attention_heads, guidance_embeds=False,
            joint_attention_dim=text_dim, pooled_projection_dim=pooled_dim, axes_dims_rope=_axes(attention_head_dim),
        )  # fmt: skip

    def forward(
        self,
        target: Tensor,
        context: Tensor,
        llm_hidden: Tensor,
        mask: Tensor,
        *,
        timestep: Tensor,
        target_ids: Tensor,
        context_ids: Tensor,
    ) -> Tensor:
        """The velocity of all image tokens (B,N+M,C), the target's first.

        target (B,N,C), context (B,M,C): packed latents; llm_hidden (B,T,D), mask (B,T): what the language model has
        read; timestep (B,) in [0,1]; target_ids (N,3), context_ids (M,3): positions (a leading 1 is allowed).
        """
        tokens, pooled = self.connector(llm_hidden, timestep, mask)
        ids = torch.cat([target_ids.reshape(-1, 3), context_ids.reshape(-1, 3)])
        return self.flux(
            hidden_states=torch.cat([target, context], dim=1), encoder_hidden_states=tokens, pooled_projections=pooled,
            timestep=timestep, img_ids=ids, txt_ids=torch.zeros_like(ids[:1]).expand(tokens.shape[1], -1),
            return_dict=False,
        )[0]  # fmt: skip


def load_transformer(state_dict: Mapping[str, Tensor], version: str) -> Step1XTransformer:
    """The model of a checkpoint in its published naming, of any size, in evaluation mode; the tensors are not copied.

    version: "v1.0" or "v1.1". Raises UserError for another version, and for names or shapes of another checkpoint.
    """
    if version not in VERSIONS:
        raise UserError(f"unknown version {version!r} of Step1X-Edit: {' or '.join(VERSIONS)}")
    try:
        config = _config(state_dict, version)
        with torch.device("meta"):
            model = Step1XTransformer(**config)
        model.load_state_dict(dict(_renamed(state_dict, config)), assign=True)
    except (KeyError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"not a checkpoint of Step1X-Edit {version}: {line[:300]}") from error
    return model.eval().requires_grad_(False)


def _config(state: Mapping[str, Tensor], version: str) -> dict[str, object]:
    width, in_channels = state["img_in.weight"].shape
    head = len(state["single_blocks.0.norm.query_norm.scale"])

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})

    return {
        "version": version, "in_channels": in_channels, "num_layers": count(GROUPS[0][0]),
        "num_single_layers": count(GROUPS[1][0]), "attention_head_dim": head, "num_attention_heads": width // head,
        "llm_dim": state["connector.global_proj_out.weight"].shape[1], "text_dim": state["txt_in.weight"].shape[1],
        "pooled_dim": state["connector.global_proj_out.weight"].shape[0], "refiner_layers": count(GROUPS[2][0]),
    }  # fmt: skip


def _renamed(state: Mapping[str, Tensor], config: Mapping[str, object]) -> Iterator[tuple[str, Tensor]]:
    width = len(state["img_in.bias"])
    for name, tensor in state.items():
        if name == "connector.scale_factor":
            yield name, tensor
            continue
        stem, _, kind = name.rpartition(".")
        prefix, table = "", TOP
        for old, new, inside in GROUPS:
            if found := re.match(rf"{re.escape(old)}(\d+)\.", stem):
                prefix, table, stem = f"{new}{found[1]}.", inside, stem[found.end() :]
        if stem == "final_layer.adaLN_modulation.1":
            shift, scale = tensor.chunk(2)
            tensor = torch.cat([scale, shift])  # diffusers has them the other way round
        targets = table[stem].split("|")
        sizes = (
            [width] * 3 + [len(tensor) - 3 * width]
            if len(targets) == 4
            else [len(tensor) // len(targets)] * len(targets)
        )
        for target, part in zip(targets, tensor.split(sizes), strict=True):
            yield f"{prefix}{target}.{'weight' if kind == 'scale' else kind}", part


def _axes(head: int) -> tuple[int, int, int]:
    """How FLUX shares a head's width among time, rows and columns: 16 + 56 + 56 of 128."""
    return head // 8, head * 7 // 16, head * 7 // 16
