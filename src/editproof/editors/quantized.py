"""The plan "int8": weights of large editors in 8 bits, by torchao through diffusers' configuration (extra `quantized`).

Matrices are kept as whole numbers with a scale a row, and multiplied in the editor's precision: gradients reach the
photo as without. Results differ a little from those of the plan "whole".
"""

from typing import Any

from editproof.errors import UserError

PARTS = ("transformer", "unet", "text_encoder", "text_encoder_2", "text_encoder_3")


def quantization(index: dict[str, Any], left_out: dict[str, Any]) -> Any:
    """What `from_pretrained` of a pipeline is told, for all large parts that a model_index.json names.

    left_out: parts that are not loaded. Raises UserError without torchao.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig
    except ImportError:
        raise UserError("plan 'int8' needs torchao; allowed: pip install 'editproof[quantized]'") from None
    import diffusers
    import transformers
    from diffusers.quantizers import PipelineQuantizationConfig

    libraries = {"diffusers": diffusers.TorchAoConfig, "transformers": transformers.TorchAoConfig}
    kinds = {part: index[part] for part in PARTS if part in index and part not in left_out}
    return PipelineQuantizationConfig(
        quant_mapping={
            part: libraries[kind[0]](Int8WeightOnlyConfig())
            for part, kind in kinds.items()
            if kind[0] in libraries and not kind[1].startswith("CLIP")  # those are small
        }
    )
