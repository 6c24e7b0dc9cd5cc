"""The plugins on full TensorRT's own base classes, and under its own Python code for ahead-of-time plugins."""

import json

import pytest
from written_packs import write_pack

from nvfp4_trt.kernels.launch import Device, quantize_launch

CLASSES = """
    import json, sys
    import tensorrt as trt
    from nvfp4_trt.kernels import load_pack
    from nvfp4_trt.plugin import GEMM, QUANTIZE, GemmFields, QuantizeFields, plugin_classes
    from nvfp4_trt.plugin.expressions import fields_from, serialized_fields

    made = plugin_classes(trt, load_pack(sys.argv[1]))
    told = {"version": trt.__version__}
    quantize = QuantizeFields("token", "rms_norm", 1e-6, emit_values=1)
    for name, fields in ((QUANTIZE, quantize), (GEMM, GemmFields(16))):
        held = serialized_fields(trt, fields)
        creator = made.creator(name)
        plugin = creator.create_plugin("fc", held.collection, trt.TensorRTPhase.BUILD)
        assert plugin.fields == fields == fields_from(name, plugin.get_fields_to_serialize())
        assert (creator.name, creator.plugin_namespace) == (name, "nvfp4")
        assert all(plugin.get_capability_interface(kind) is plugin for kind in (
            trt.PluginCapabilityType.CORE, trt.PluginCapabilityType.BUILD, trt.PluginCapabilityType.RUNTIME))
        inputs = [trt.DataType.BF16] if name == QUANTIZE else [
            trt.DataType.INT8, trt.DataType.INT8, trt.DataType.FLOAT] * 2
        told[name] = [plugin.num_outputs, [each.name for each in plugin.get_output_data_types(inputs)]]
    print(json.dumps(told))
"""


def test_the_classes(with_full_bindings, tmp_path):
    pack = write_pack(tmp_path / "pack")
    told = json.loads(with_full_bindings(CLASSES, pack.root).splitlines()[-1])
    assert int(told["version"].split(".")[0]) >= 11
    assert told["Nvfp4Quantize"] == [4, ["INT8", "INT8", "FLOAT", "BF16"]]
    assert told["Nvfp4Gemm"] == [1, ["BF16"]]


AOT = """
    import json
    import tensorrt as trt
    import tensorrt.plugin as trtp
    from tensorrt.plugin._lib import QDP_REGISTRY
    from nvfp4_trt.kernels.launch import Device
    from nvfp4_trt.plugin.aot import TENSORS, register_aot

    rows = [{"max_m": None, "max_n": None, "max_k": None, "tile": "64x128x256", "split_k": 4}]
    register_aot(trt, trtp, rows, 120, Device(148, 227 * 1024), lazy=True)
    kinds = {"f16": trt.DataType.HALF, "f32": trt.DataType.FLOAT, "i8": trt.DataType.INT8}

    def described(shape, dtype):
        made = trtp.TensorDesc()
        made.dtype, made.shape = kinds[dtype], trtp.Shape(shape)
        made.shape_expr = trtp.ShapeExprs(len(shape), _is_dummy=True)
        return made

    def run(name, inputs, attributes):
        plugin = QDP_REGISTRY[f"nvfp4::{name}"]
        assert tuple(plugin.input_tensor_names) == TENSORS[name][0]
        assert list(plugin.input_attrs) == plugin.aot_impl_attr_names == list(attributes)
        assert plugin.num_outputs == len(TENSORS[name][1])
        tensors = [described(*each) for each in inputs]
        outputs = plugin.register_func(*tensors, **attributes)
        entry, cubin, launch, extra = plugin.aot_impl_func(*tensors, *attributes.values(), outputs, 0)
        assert isinstance(cubin, bytes) and cubin[:4] == b"\\x7fELF"
        assert isinstance(launch, trtp.KernelLaunchParams) and isinstance(extra, trtp.SymExprs)
        assert all(isinstance(each, trtp.SymInt32) for each in extra)
        ranks = [len(each.shape_expr) for each in outputs]
        return [entry, [each.dtype.name for each in outputs], ranks, len(extra)]

    x = ((4, 7, 64), "f16")
    flags = dict.fromkeys(("has_residual", "has_weight", "has_bias", "emit_values", "emit_sum"), 0)
    quantize = {"scaling": "SCALING", "function": "none", "epsilon": 1e-5, **flags}
    codes = [((4, 7, 32), "i8"), ((48, 32), "i8")]
    gemm = [*codes, ((512,), "i8"), ((512,), "i8"), ((4, 7, 1), "f32"), ((48,), "f32")]
    print(json.dumps({
        **{scaling: run("Nvfp4QuantizeAot", [x] * 4 + [((1,), "f32")], {**quantize, "scaling": scaling})
           for scaling in ("token", "static", "single")},
        "gemm": run("Nvfp4GemmAot", [*gemm, gemm[-1]], {"dtype": 10, "has_bias": 0}),
    }))
"""


@pytest.mark.long
def test_the_ahead_of_time_plugins(with_full_bindings):
    """Registered, and called as TensorRT calls them, on expressions that have no values; kernels compiled."""
    told = json.loads(with_full_bindings(AOT).splitlines()[-1])
    dtypes = ["INT8", "INT8", "FLOAT", "HALF", "HALF"]
    for scaling, alpha_rank in (("token", 3), ("static", 1), ("single", 1)):
        entry = quantize_launch("quantize", scaling, "f16", 28, 64, Device(148, 227 * 1024)).entry
        assert told[scaling] == [entry, dtypes, [3, 1, alpha_rank, 1, 1], 6]
    assert told["gemm"] == ["gemm_kernel", ["HALF", "FLOAT", "FLOAT"], [3, 1, 1], 6]
