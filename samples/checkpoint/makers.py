"""Small NVFP4 checkpoints, made on the spot and on the CPU by the packages whose formats they are in.

The weights are random: what is shown of them is where they arrive, not what they compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM


def plain_pair() -> nn.Sequential:
    """Return the module that the weights of `torchao_module` go into."""
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32)).bfloat16()


def torchao_module(*, static: bool = False) -> nn.Sequential:
    """Return two linears that torchao quantized: their weights only, or with static input scales too."""
    from torchao.prototype.mx_formats.inference_workflow import (
        NVFP4DynamicActivationNVFP4WeightConfig,
        NVFP4WeightOnlyConfig,
    )
    from torchao.quantization import quantize_

    torch.manual_seed(0)
    module = plain_pair()
    if not static:
        quantize_(module, NVFP4WeightOnlyConfig())
        return module
    options = {"use_triton_kernel": False}
    quantize_(module, NVFP4DynamicActivationNVFP4WeightConfig(step="prepare", **options))
    for _ in range(2):
        module(torch.randn(4, 64).bfloat16())
    quantize_(module, NVFP4DynamicActivationNVFP4WeightConfig(step="convert", **options))
    return module


def save_torchao(module: nn.Module, path: Path) -> None:
    """Write a module of torchao's as the safetensors file that torchao flattens it into."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    tensors, metadata = flatten_tensor_state_dict(dict(module.state_dict()))
    save_file(tensors, path, metadata=metadata)


def tiny_llama() -> LlamaForCausalLM:
    """Return a Llama of one layer, seven linears and an `lm_head`, with random weights in bf16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        architectures=["LlamaForCausalLM"],
    )
    return LlamaForCausalLM(config).bfloat16().eval()


def save_modelopt(folder: Path) -> None:
    """Quantize the Llama with ModelOpt, and export it as ModelOpt's own Hugging Face checkpoint."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    model = tiny_llama()
    mtq.quantize(model, mtq.NVFP4_DEFAULT_CFG, lambda m: m(torch.arange(16).view(2, 8)))
    export_hf_checkpoint(model, export_dir=folder)


def save_compressed_tensors(folder: Path) -> None:
    """Quantize the Llama with compressed-tensors, and save it as llm-compressor does.

    The scales of weights are compressed-tensors' own; those of inputs stand for what a calibration would find.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    model = tiny_llama()
    config = QuantizationConfig(
        config_groups={"group_0": preset_name_to_scheme("NVFP4", ["Linear"])}, ignore=["lm_head"]
    )
    apply_quantization_config(model, config)
    for index, module in enumerate(model.modules()):
        if hasattr(module, "quantization_scheme"):
            weight = module.weight.data.float()
            over_all = generate_gparam(weight.min(), weight.max())
            blocks = weight.unflatten(-1, (-1, 16))
            scales, _ = calculate_qparams(
                blocks.amin(-1), blocks.amax(-1), module.quantization_scheme.weights, global_scale=over_all
            )
            module.weight_global_scale.data.copy_(over_all)
            module.weight_scale.data.copy_(scales)
            module.input_global_scale.data.copy_(generate_gparam(torch.tensor(-3.0), torch.tensor(3 + index / 7)))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
