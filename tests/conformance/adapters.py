"""Four implementations behind the callable that the conformance runner takes."""

import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper

from nvfp4_trt import format as fmt
from nvfp4_trt.exporting.translate import rule_attributes, scale_attributes
from nvfp4_trt.portable import DOMAIN, OPSET, VERSION, portable_functions

_FP32, _UINT8, _E4M3 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.FLOAT8E4M3FN


def as_tensor(array):
    array = np.array(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _bytes(block_scale):
    return block_scale.view(torch.uint8).numpy()


def ours(x, *, rule, scaling, scale):
    x, rule = as_tensor(x), fmt.scale_rule(rule)
    if scaling == "tensor":
        packed, block_scale, used = fmt.pack_weight(x, rule)
        return packed.numpy(), _bytes(block_scale), used.numpy()
    used = fmt.per_token_scale(x, rule) if scaling == "token" else None if scale is None else as_tensor(scale)
    packed, block_scale = fmt.quantize(x, used, rule)
    return packed.numpy(), _bytes(block_scale), None if used is None else used.numpy()


def ours_dequantize(packed, block_scale, scale):
    block_scale = as_tensor(block_scale).view(torch.float8_e4m3fn)
    return fmt.dequantize(as_tensor(packed), block_scale, as_tensor(scale)).numpy()


def torchao(x, *, rule, scaling, scale):
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    x = as_tensor(x)
    x = x.float() if x.dtype == torch.float16 else x  # it takes no fp16
    used = None if scale is None else as_tensor(scale)
    if scaling == "tensor":
        used = per_tensor_amax_to_scale(x.abs().max().float())
    made = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=used)
    return made.qdata.numpy(), _bytes(made.scale), None if used is None else used.numpy()


def torchao_dequantize(packed, block_scale, scale):
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor

    block_scale = as_tensor(block_scale).view(torch.float8_e4m3fn)
    made = NVFP4Tensor(as_tensor(packed), block_scale, 16, torch.float32, per_tensor_scale=as_tensor(scale))
    return made.dequantize(torch.float32).numpy()


def compressed_tensors(x, *, rule, scaling, scale):
    from compressed_tensors.compressors.nvfp4.helpers import quantize_and_pack_fp4
    from compressed_tensors.quantization.quant_scheme import NVFP4
    from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam

    x = as_tensor(x).float()  # it divides 16-bit weights in 16 bits
    inverse = generate_gparam(x.min(), x.max()) if scale is None else 1 / as_tensor(scale)
    blocks = x.unflatten(-1, (-1, 16))
    block_scale, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), NVFP4["weights"], global_scale=inverse)
    packed = quantize_and_pack_fp4(x.clone(), block_scale, global_scale=inverse)
    used = None if scale is not None else (1 / inverse).reshape(()).numpy()
    return packed.numpy(), _bytes(block_scale.to(torch.float8_e4m3fn)), used


def compressed_tensors_dequantize(packed, block_scale, scale):
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8

    codes = as_tensor(packed)
    values = unpack_fp4_from_uint8(codes, codes.shape[0], codes.shape[1] * 2, dtype=torch.float32)
    scales = as_tensor(block_scale).view(torch.float8_e4m3fn).float() / (1 / as_tensor(scale))
    return (values * scales.repeat_interleave(16, dim=-1)).numpy()


def _onnx(op, inputs, outputs, attributes):
    node = helper.make_node(op, list(inputs), [n for n, _ in outputs], domain=DOMAIN, **attributes)
    given = [helper.make_tensor_value_info(n, kind, None) for n, (kind, _) in inputs.items()]
    made = [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(
        helper.make_graph([node], "one", given, made),
        functions=[portable_functions()[op]],
        opset_imports=opsets,
        ir_version=11,
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {
        n: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), kind)
        for n, (kind, array) in inputs.items()
    }
    return [value.numpy() for value in session.run_with_ort_values(None, feeds)]


def _given(x):
    kind = {"float32": _FP32, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[x.dtype.name]
    return kind, x.view(np.uint16) if x.dtype.name == "bfloat16" else x


def onnx_bodies(x, *, rule, scaling, scale):
    inputs = {"x": _given(x)}
    if scaling in {"tensor", "token"}:
        op = "PerTensorScale" if scaling == "tensor" else "PerTokenScale"
        (scale,) = _onnx(op, inputs, [("scale", _FP32)], scale_attributes(rule))
    outputs = [("packed", _UINT8), ("block_scale", _E4M3)]
    if scaling == "single":
        packed, block_scale = _onnx("QuantizeSingleLevel", inputs, outputs, rule_attributes(rule))
        return packed, block_scale, None
    packed, block_scale = _onnx("Quantize", inputs | {"scale": (_FP32, scale)}, outputs, rule_attributes(rule))
    return packed, block_scale, scale


def onnx_bodies_dequantize(packed, block_scale, scale):
    inputs = {"packed": (_UINT8, packed), "block_scale": (_E4M3, block_scale), "scale": (_FP32, scale)}
    return _onnx("Dequantize", inputs, [("y", _FP32)], {})[0]


def wrong(x, *, rule, scaling, scale):
    """Swap the nibbles: what the runner has to notice."""
    packed, block_scale, used = ours(x, rule=rule, scaling=scaling, scale=scale)
    return (packed >> 4) | (packed << 4), block_scale, used


def raising(x, **_):
    raise RuntimeError("no kernel")
