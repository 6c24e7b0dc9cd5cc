"""The plugin's classes on the real base classes: those of TensorRT-RTX's bindings, which are full TensorRT's too.

RTX builds no plugins, so that nobody calls these methods here but the tests; and full TensorRT's bindings do not
import without its libraries, so that their names and signatures are read from them as text.
"""

import importlib.metadata
import inspect
import json
import re

import pytest
import tensorrt_rtx as trt
from written_packs import write_pack

from nvfp4_trt.errors import KernelLaunchError, PluginNodeError
from nvfp4_trt.plugin import (
    GEMM,
    NAMESPACE,
    QUANTIZE,
    VERSION,
    GemmFields,
    QuantizeFields,
    plugin_classes,
    register,
)
from nvfp4_trt.plugin.expressions import (
    DTYPES,
    Expressions,
    fields_from,
    our_dtype,
    serialized_fields,
    their_dtype,
)
from nvfp4_trt.plugin.shapes import Integers

BASES = ("IPluginV3", "IPluginV3OneCore", "IPluginV3OneBuild", "IPluginV3OneRuntime")
ATTRIBUTES = {
    "IPluginV3OneCore": ("plugin_name", "plugin_version", "plugin_namespace"),
    "IPluginV3OneBuild": ("num_outputs", "timing_cache_id", "metadata_string"),
    "IPluginCreatorV3One": ("name", "plugin_version", "plugin_namespace", "field_names"),
}
OPTIONAL = {"destroy", "get_valid_tactics"}
"""Methods that TensorRT's documentation lets a Python plugin leave out."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("packs") / "pack")


@pytest.fixture(scope="module")
def classes(pack):
    return plugin_classes(trt, pack)


@pytest.fixture(scope="module")
def full_bindings():
    files = importlib.metadata.files("tensorrt-cu13-bindings")
    (library,) = (f for f in files if f.name == "tensorrt.so")
    return library.locate().read_bytes()


def bound_methods(base):
    """Return what the bindings say of a base class's methods: name → names of the arguments."""
    found = {}
    for name, member in vars(base).items():
        told = (getattr(member, "__doc__", None) or "").split("\n")[0]
        if not name.startswith("_") and told.startswith(f"{name}(self"):
            found[name] = re.findall(r"[(,] ?(\w+): ", told)[1:]
    return found


@pytest.mark.parametrize("base", BASES)
def test_every_method_that_tensorrt_calls_is_there_with_its_arguments(classes, base):
    methods = bound_methods(getattr(trt, base))
    assert methods or base == "IPluginV3OneCore"
    for name, wanted in methods.items():
        if name in OPTIONAL and name not in vars(classes.plugin):
            continue
        given = list(inspect.signature(vars(classes.plugin)[name]).parameters)[1:]
        # `in` and `out` cannot be, and where TensorRT says in and out it passes descriptions.
        renamed = {"in": "inputs", "out": "outputs"}
        assert given == [renamed.get(each, each) for each in wanted], name


def test_the_walk_sees_the_methods():
    assert bound_methods(trt.IPluginV3OneRuntime)["enqueue"] == [
        "input_desc",
        "output_desc",
        "inputs",
        "outputs",
        "workspace",
        "stream",
    ]


def test_every_method_has_an_owner(classes):
    """No method of ours has a name that TensorRT never calls."""
    known = {name for base in BASES for name in bound_methods(getattr(trt, base))}
    ours = {name for name, member in vars(classes.plugin).items() if inspect.isfunction(member)}
    assert {name for name in ours if not name.startswith("__")} <= known


def test_the_creators_method(classes):
    ((name, wanted),) = bound_methods(trt.IPluginCreatorV3One).items()
    assert list(inspect.signature(vars(classes.creator)[name]).parameters)[1:] == wanted


@pytest.mark.parametrize("base", sorted({*BASES, *ATTRIBUTES}))
def test_full_tensorrt_has_the_same_names(full_bindings, base):
    names = [base, *bound_methods(getattr(trt, base)), *ATTRIBUTES.get(base, ())]
    assert len(names) > 1
    for name in names:
        assert f"{name}\0".encode() in full_bindings, name
    assert b"IPluginV3TwoCore\0" not in full_bindings  # what shows that this can fail


@pytest.mark.parametrize("base", sorted(ATTRIBUTES))
def test_attributes_are_the_bindings_own(base):
    for name in ATTRIBUTES[base]:
        assert isinstance(vars(getattr(trt, base))[name], property)


def test_expressions_have_the_operations_and_the_methods():
    methods = {name for name, member in vars(Integers).items() if inspect.isfunction(member)}
    assert methods <= set(vars(Expressions))
    assert {"PROD", "FLOOR_DIV", "CEIL_DIV"} <= set(trt.DimensionOperation.__members__)
    assert {"constant", "operation"} <= set(dir(trt.IExprBuilder))


def test_dtypes_are_the_bindings_own():
    for ours in DTYPES:
        assert our_dtype(their_dtype(trt, ours)) == ours
    assert our_dtype(trt.DataType.INT32) == "INT32"


@pytest.fixture
def registry(pack):
    """The registry with both plugins in it; as it was, afterwards."""
    found = trt.get_plugin_registry()
    creators = register(trt, pack)
    yield found
    for creator in creators:
        assert found.deregister_creator(creator)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (QUANTIZE, QuantizeFields("token", "rms_norm", 1e-6, has_residual=1, has_weight=1, emit_sum=1)),
        (GEMM, GemmFields(16, has_bias=1)),
    ],
)
def test_a_plugin_made_by_the_registrys_creator(registry, pack, name, fields):
    """As a parser makes it, and as a runtime makes it again from what an engine holds."""
    creator = registry.get_creator(name, VERSION, NAMESPACE)
    assert creator is not None
    held = serialized_fields(trt, fields)  # a collection has addresses only
    made = creator.create_plugin("fc/node", held.collection, trt.TensorRTPhase.BUILD)
    assert made.fields == fields
    assert (made.plugin_name, made.plugin_version, made.plugin_namespace) == (name, VERSION, NAMESPACE)
    assert made.num_outputs == len(fields.outputs)
    assert json.loads(made.metadata_string)["plugin"] == name
    assert all(
        made.get_capability_interface(kind) is made for kind in trt.PluginCapabilityType.__members__.values()
    )
    again = creator.create_plugin("fc/node", made.get_fields_to_serialize(), trt.TensorRTPhase.RUNTIME)
    clone = made.clone()
    assert again.fields == clone.fields == fields
    assert again.timing_cache_id == clone.timing_cache_id == made.timing_cache_id
    assert fields_from(name, clone.get_fields_to_serialize()) == fields


def test_plugins_of_two_packs_share_no_timings(classes, pack, tmp_path):
    other = plugin_classes(trt, write_pack(tmp_path / "other", sm=121))
    ids = [each.plugin(GEMM, GemmFields(1)).timing_cache_id for each in (classes, other)]
    assert ids[0] != ids[1]


def test_registering_twice_keeps_the_first(registry, pack):
    held = [registry.get_creator(name, VERSION, NAMESPACE) for name in (QUANTIZE, GEMM)]
    assert all(again is first for again, first in zip(register(trt, pack), held, strict=True))


def test_a_bad_field_makes_no_plugin(registry):
    creator = registry.get_creator(GEMM, VERSION, NAMESPACE)
    held = serialized_fields(trt, QuantizeFields("token"))
    with pytest.raises(PluginNodeError, match="no attribute 'scaling'"):
        creator.create_plugin("fc/node", held.collection, trt.TensorRTPhase.BUILD)


def description(dtype, form=trt.TensorFormat.LINEAR):
    made = trt.DynamicPluginTensorDesc()
    made.desc.type, made.desc.format = their_dtype(trt, dtype), form
    return made


def test_formats_and_dtypes(classes):
    plugin = classes.plugin(QUANTIZE, QuantizeFields("static", "silu_mul"))
    dtypes = ["bf16", "bf16", "f32", "i8", "i8", "f32"]
    row = [description(dtype) for dtype in dtypes]
    assert all(plugin.supports_format_combination(i, row, 3) for i in range(len(row)))
    wrong = [*row[:3], description("i8", trt.TensorFormat.CHW32), *row[4:]]
    assert not plugin.supports_format_combination(3, wrong, 3)
    assert plugin.supports_format_combination(2, wrong, 3)  # later tensors are not looked at
    assert not plugin.supports_format_combination(1, [row[0], description("f32"), *row[2:]], 3)
    types = plugin.get_output_data_types([each.desc.type for each in row[:3]])
    assert types == [trt.DataType.INT8, trt.DataType.INT8, trt.DataType.FLOAT]


def test_a_plugin_without_a_context_does_not_run(classes):
    plugin = classes.plugin(GEMM, GemmFields(1))
    with pytest.raises(KernelLaunchError):
        plugin.enqueue([], [], [], [], 0, 0)
    plugin.destroy()


def test_a_quantizer_needs_no_workspace_and_no_gpu_to_say_so(classes):
    assert classes.plugin(QUANTIZE, QuantizeFields("token")).get_workspace_size([], []) == 0
