"""Networks of one FP4 GEMM in TensorRT's dialect, by hand, to ask TensorRT-RTX what it makes of them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nvfp4_trt.auditing import parse_record
from nvfp4_trt.building.backends import BackendName
from nvfp4_trt.building.process import run_build
from nvfp4_trt.building.spec import BuildSpec

OPSETS = [helper.make_opsetid("", 23), helper.make_opsetid("trt", 1)]
_E4M3 = TensorProto.FLOAT8E4M3FN


class Network:
    """Nodes and initializers on their way to a model."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, op, inputs, name, outputs=1, **attributes):
        made = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, **attributes))
        return made if outputs > 1 else made[0]

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def quantized_weight(self, n, k, name="w"):
        """Add random codes `[n, k]` and block scales of 1; return the dequantized weight."""
        codes = np.random.default_rng(0).integers(0, 256, n * k // 2, dtype=np.uint8).tobytes()
        steps = bytes([0x38]) * (n * k // 16)
        self.constants += [
            helper.make_tensor(name, TensorProto.FLOAT4E2M1, [n, k], codes, raw=True),
            helper.make_tensor(f"{name}.steps", _E4M3, [n, k // 16], steps, raw=True),
        ]
        scale = self.constant(f"{name}.scale", np.float32(0.01))
        wide = self.add("DequantizeLinear", [f"{name}.steps", scale], f"{name}/scales")
        return self.add("DequantizeLinear", [name, wide], f"{name}/values", axis=-1, block_size=16)

    def quantized(self, x, scale, name="x"):
        """Add TensorRT's quantizer and what follows it; return the dequantized activation."""
        codes, steps = self.add(
            "TRT_FP4DynamicQuantize",
            [x, scale],
            f"{name}/quantize",
            2,
            domain="trt",
            axis=-1,
            block_size=16,
            scale_type=_E4M3,
        )
        wide = self.add("DequantizeLinear", [steps, scale], f"{name}/scales")
        return self.add("DequantizeLinear", [codes, wide], f"{name}/dequantized", axis=-1, block_size=16)

    def fp8_weight(self, n, k, name="w", *, per_channel=True):
        """Add random e4m3 codes `[n, k]`; return the dequantized weight."""
        codes = np.random.default_rng(0).integers(0, 0x7E, n * k, dtype=np.uint8).tobytes()
        self.constants.append(helper.make_tensor(name, _E4M3, [n, k], codes, raw=True))
        steps = np.full(n, 0.01, np.float32) if per_channel else np.float32(0.01)
        axis = {"axis": 0} if per_channel else {}
        return self.add("DequantizeLinear", [name, self.constant(f"{name}.scale", steps)], f"{name}/dq", **axis)

    def fp8(self, x, scale, name="x"):
        """Add a quantizer to e4m3 with a constant scale; return the dequantized activation."""
        self.constants.append(helper.make_tensor(f"{name}.zero", _E4M3, [], bytes(1), raw=True))
        codes = self.add("QuantizeLinear", [x, scale, f"{name}.zero"], f"{name}/codes")
        return self.add("DequantizeLinear", [codes, scale], f"{name}/dequantized")

    def over_448(self, x, *, per_token):
        """Add amax(|x|) / 448, of rows or of everything."""
        axes = [self.constant("last", np.array([-1], np.int64))] if per_token else []
        amax = self.add("ReduceMax", [self.add("Abs", [x], "magnitude"), *axes], "amax", keepdims=int(per_token))
        return self.add("Div", [amax, self.constant("span", np.float32(448))], "over_448")

    def matmul(self, x, weight, name):
        return self.add("MatMul", [x, self.add("Transpose", [weight], f"{name}/t", perm=[1, 0])], name)

    def model(self, shape, outputs):
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=11)


def linear(shape=(8, 64), n=64, *, before_weight=None, before_activation=None, run_time=False):
    """Return one linear layer; `before_…` is an operator with 0 between a DequantizeLinear and the MatMul."""
    net = Network()
    zero = net.constant("zero", np.float32(0))
    scale = net.constant("scale", np.float32(1))
    if run_time:
        scale = net.add("ReduceMax", ["x"], "amax", keepdims=0)
    x = net.quantized("x", scale)
    weight = net.quantized_weight(n, shape[-1])
    if before_activation:
        x = net.add(before_activation, [x, zero], "between")
    if before_weight:
        weight = net.add(before_weight, [weight, zero], "between")
    return net.model(shape, [net.matmul(x, weight, "y")])


def fp8_linear(shape=(8, 64), n=64, *, per_channel=True, scaling="static", weight_only=False):
    """Return one linear layer in FP8; a run-time scale divides in front, and multiplies after."""
    net = Network()
    x, one = "x", net.constant("one", np.float32(1))
    if scaling != "static":
        amax = net.over_448("x", per_token=scaling == "token")
        x = net.add("Div", ["x", amax], "divided")
    quantized = x if weight_only else net.fp8(x, one)
    y = net.matmul(quantized, net.fp8_weight(n, shape[-1], per_channel=per_channel), "y")
    if scaling != "static":
        y = net.add("Mul", [y, amax], "multiplied")
    return net.model(shape, [y])


def make_spec(folder, model, profile=None):
    """Save the model and return what a build of it asks for."""
    path = folder / "tiny.onnx"
    onnx.save(model, path)
    return BuildSpec(
        backend=BackendName.TENSORRT_RTX,
        targets=("sm_120",),
        model=path,
        engine=folder / "tiny.engine",
        record=folder / "record.txt",
        log=folder / "tensorrt.log",
        profiles=(profile,) if profile else (),
    )


def rows_of(folder, model, profile=None):
    """Build in a child process, as the product does, and return the layer record."""
    spec = make_spec(folder, model, profile)
    run_build(spec, folder)
    return parse_record(spec.record.read_text(encoding="utf-8"))
