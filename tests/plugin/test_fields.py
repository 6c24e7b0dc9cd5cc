import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorrt_rtx

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.expressions import declared_fields, fields_from, serialized_fields
from nvfp4_trt.plugin.fields import GEMM, QUANTIZE, GemmFields, QuantizeFields, field_values, read_fields

RECORDS = [
    (QUANTIZE, QuantizeFields("single")),
    (QUANTIZE, QuantizeFields("static", "silu_mul", emit_values=1)),
    (
        QUANTIZE,
        QuantizeFields("token", "layer_norm", 1e-12, has_residual=1, has_weight=1, has_bias=1, emit_sum=1),
    ),
    (GEMM, GemmFields(16)),
    (GEMM, GemmFields(1, has_bias=1)),
]


@pytest.mark.parametrize(
    ("fields", "inputs", "outputs", "kernel"),
    [
        (QuantizeFields("token"), "x", "codes scales alpha", "quantize"),
        (QuantizeFields("static", "relu"), "x scale", "codes scales alpha", "activation_quantize"),
        (
            QuantizeFields("tensor", "silu_mul", emit_values=1),
            "x other",
            "codes scales alpha values",
            "activation_quantize",
        ),
        (
            QuantizeFields("static", "layer_norm", 0.1, 1, 1, 1, 1, 1),
            "x other weight bias scale",
            "codes scales alpha values sum",
            "norm_quantize",
        ),
        (QuantizeFields("token", "rms_norm", has_weight=1), "x weight", "codes scales alpha", "norm_quantize"),
    ],
)
def test_which_tensors_a_quantizer_has(fields, inputs, outputs, kernel):
    assert fields.inputs == tuple(inputs.split())
    assert fields.outputs == tuple(outputs.split())
    assert fields.kernel == kernel


def test_which_tensors_a_gemm_has():
    assert GemmFields(10).inputs == ("a", "a_scales", "alpha", "b", "b_scales", "beta")
    assert GemmFields(10, has_bias=1).inputs[-1] == "bias"
    assert [GemmFields(number).output_dtype for number in (1, 10, 16)] == ["f32", "f16", "bf16"]


@pytest.mark.parametrize(
    ("plugin", "given", "told"),
    [
        (QUANTIZE, {}, "needs the attribute 'scaling'"),
        (QUANTIZE, {"scaling": "row"}, "scaling is 'row', and may be token, tensor"),
        (QUANTIZE, {"scaling": "token", "function": "tanh"}, "function is 'tanh'"),
        (QUANTIZE, {"scaling": "token", "epsilon": -1.0}, "epsilon is -1.0"),
        (QUANTIZE, {"scaling": "token", "epsilon": float("nan")}, "epsilon is nan"),
        (QUANTIZE, {"scaling": "token", "epsilon": np.zeros(2, np.float32)}, "epsilon is array"),
        (QUANTIZE, {"scaling": "token", "emit_sum": 2}, "emit_sum is 2"),
        (QUANTIZE, {"scaling": "token", "axis": 1}, "no attribute 'axis'"),
        (QUANTIZE, {"scaling": b"\xff\x00"}, "which is no str"),
        (QUANTIZE, {"scaling": "token", "has_residual": 1}, "has_residual = 1 with the function none"),
        (
            QUANTIZE,
            {"scaling": "token", "function": "gelu", "has_weight": 1},
            "has_weight = 1 with the function gelu",
        ),
        (QUANTIZE, {"scaling": "token", "function": "rms_norm", "has_bias": 1}, "has_bias = 1"),
        (QUANTIZE, {"scaling": "token", "emit_values": 1}, "emit_values = 1"),
        (QUANTIZE, {"scaling": "token", "function": "rms_norm", "emit_sum": 1}, "emit_sum = 1"),
        (GEMM, {}, "needs the attribute 'dtype'"),
        (GEMM, {"dtype": 11}, "dtype is 11, and may be 1, 10, 16"),
        (GEMM, {"dtype": "ten"}, "dtype is 'ten', which is no int"),
        (GEMM, {"dtype": 10, "has_bias": -1}, "has_bias is -1"),
    ],
)
def test_a_bad_attribute_is_named(plugin, given, told):
    with pytest.raises(PluginNodeError) as caught:
        read_fields(plugin, given)
    assert told in caught.value.message
    assert caught.value.code == "plugin-node-invalid"


@pytest.mark.parametrize(("plugin", "record"), RECORDS)
def test_fields_go_through_tensorrts_collection_and_back(plugin, record):
    """In the bindings' own classes, which keep addresses: what they point to has to stay."""
    made = serialized_fields(tensorrt_rtx, record)
    noise = [np.full(64, value, np.float64) for value in range(512)]  # takes the memory that was let go
    assert fields_from(plugin, made.collection) == record
    assert len(noise) == 512


@pytest.mark.parametrize(("plugin", "record"), RECORDS)
def test_declared_fields_have_the_types_of_the_serialized_ones(plugin, record):
    declared, written = declared_fields(tensorrt_rtx, plugin), serialized_fields(tensorrt_rtx, record)
    assert [(f.name, f.type) for f in declared.collection] == [(f.name, f.type) for f in written.collection]
    assert {f.size for f in declared.collection} == {0}


CHILD = """
    import json, sys
    import onnx
    from onnx import helper
    import tensorrt_rtx as trt
    from nvfp4_trt.plugin.expressions import declared_fields, fields_from
    from nvfp4_trt.plugin.fields import NAMESPACE, VERSION, field_values

    plugin, attributes = sys.argv[1], json.loads(sys.argv[2])

    class Creator(trt.IPluginCreatorV3One):
        def __init__(self):
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = plugin, VERSION, NAMESPACE
            self.declared = declared_fields(trt, plugin)
            self.field_names = self.declared.collection

        def create_plugin(self, name, field_collection, phase):
            print(json.dumps([name, phase.name, field_values(fields_from(plugin, field_collection))]), flush=True)
            return None

    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, message):
            pass

    creator, log = Creator(), Log()
    assert trt.get_plugin_registry().register_creator(creator, NAMESPACE)
    network = trt.Builder(log).create_network(0)
    node = helper.make_node(plugin, ["x"], ["y"], name="fc/node", domain="nvfp4.plugin", plugin_version=VERSION,
                            plugin_namespace=NAMESPACE, **attributes)
    value = lambda name: helper.make_tensor_value_info(name, 1, [2, 64])
    graph = helper.make_graph([node], "g", [value("x")], [value("y")])
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("nvfp4.plugin", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
    trt.OnnxParser(network, log).parse(model.SerializeToString())
"""


@pytest.mark.parametrize(("plugin", "record"), [RECORDS[2], RECORDS[4]])
def test_tensorrts_parser_hands_over_every_attribute(plugin, record):
    """The parser of TensorRT-RTX, which is full TensorRT's: it makes the plugin, and then ends in its own way."""
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), plugin, json.dumps(field_values(record))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout.strip(), told.stderr
    name, phase, values = json.loads(told.stdout.splitlines()[0])
    assert (name, phase) == ("fc/node", "BUILD")
    assert read_fields(plugin, values) == record
