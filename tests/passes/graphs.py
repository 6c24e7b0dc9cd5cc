"""Graphs of one function in front of one quantized linear, written as ONNX text."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from nvfp4_trt.portable import DOMAIN, OPSET, VERSION, portable_functions

NAMES = {"float32": "float", "float16": "float16", "bfloat16": "bfloat16"}
NUMBERS = {"float32": 1, "float16": 10, "bfloat16": 16}
K = N = 32
RULE = "floor = 0.0, zero_amax_scale = 0.0, zero_block_scale = 0.0, arithmetic = 0, unsigned_zero = 0"


def linear(body, *, inputs=("x",), dtype="float32", constants=None, outputs=("out",)):
    """Return a portable model: `body` computes `y`, `[batch, 5, 32]`, which a quantized linear reads.

    Args:
        body: ONNX text; scalars are written `c(0.5)`, and are of the model's dtype.
        inputs: names of the graph's inputs.
        dtype: of all of them.
        constants: name → array.
        outputs: names of the graph's outputs; `out` is the linear's.
    """
    held = dict(constants or {})
    while "c(" in body:
        number = body.split("c(", 1)[1].split(")", 1)[0]
        held[name := f"c{len(held)}"] = np.array(float(number), np.float32)
        body = body.replace(f"c({number})", name)
    row = f"{NAMES[dtype]}[batch, 5, {K}]"
    text = f"""<ir_version: 11, opset_import: ["" : {OPSET}, "{DOMAIN}" : {VERSION}]>
    g ({", ".join(f"{row} {name}" for name in inputs)}) => ({", ".join(f"{row} {name}" for name in outputs)}) {{
      {body}
      q_scale = nvfp4.PerTokenScale<arithmetic = 0>(y)
      q_codes, q_steps = nvfp4.Quantize<{RULE}>(y, q_scale)
      q_y = nvfp4.Dequantize<dtype = {NUMBERS[dtype]}>(q_codes, q_steps, q_scale)
      q_w = nvfp4.Dequantize<dtype = {NUMBERS[dtype]}>(weight_packed, weight_block_scale, weight_per_tensor_scale)
      q_wt = Transpose<perm = [1, 0]>(q_w)
      out = MatMul(q_y, q_wt)
    }}"""
    proto = onnx.parser.parse_model(text)
    proto.functions.extend(portable_functions().values())
    random = np.random.default_rng(0)
    weight = {
        "weight_packed": random.integers(0, 256, (N, K // 2), dtype=np.uint8),
        "weight_block_scale": random.integers(40, 60, (N, K // 16), dtype=np.uint8),
        "weight_per_tensor_scale": np.array(0.01, np.float32),
    }
    for name, array in {**weight, **held}.items():
        kind = onnx.TensorProto.FLOAT8E4M3FN if name.endswith("block_scale") else None
        proto.graph.initializer.append(tensor(name, array, NUMBERS[dtype] if name in held else kind))
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def tensor(name, array, kind):
    """Return an initializer: of the given ONNX type where it is a float array, of those bits where it is uint8."""
    if kind == onnx.TensorProto.FLOAT8E4M3FN:
        return onnx.helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)
    if array.dtype == np.float32 and kind is not None:
        return onnx.helper.make_tensor(name, kind, array.shape, array.reshape(-1))
    return onnx.numpy_helper.from_array(array, name)


def draw(dtype="float32", seed=0, size=2.0):
    as_numpy = onnx.helper.tensor_dtype_to_np_dtype(NUMBERS[dtype])
    return np.random.default_rng(seed).normal(0, size, (3, 5, K)).astype(as_numpy)
