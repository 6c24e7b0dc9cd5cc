"""A model planned by three and four of its blocks is the model planned whole."""

import onnx_ir as ir
import pytest
import torch
from torch import nn
from transformer_block import Block

import nvfp4_trt
from nvfp4_trt.building.profiles import parse_ranges
from nvfp4_trt.planning.forecast import Forecast
from nvfp4_trt.planning.renaming import Renaming
from nvfp4_trt.planning.repeats import Run, find_run, keep_blocks
from nvfp4_trt.portable import load

WIDTH, NEVER = 64, 1 << 30


class Stack(nn.Module):
    """Blocks between layers of other kinds; `every` adds up what all of them make."""

    def __init__(self, layers, *, before=False, every=False):
        super().__init__()
        self.embed, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 48)
        self.blocks = nn.ModuleList(Block(before, width=WIDTH, heads=2, inner=128) for _ in range(layers))
        self.every = every

    def forward(self, x):
        x = self.embed(x)
        made = []
        for block in self.blocks:
            x = block(x)
            made.append(x)
        return torch.tanh(self.head(sum(made) if self.every else x))


def exported(path, recipe, *, exclude=(), **options):
    torch.manual_seed(0)
    model = Stack(**options).half().eval()
    inputs = [{"x": torch.randn(2, 16, WIDTH).half()}]
    nvfp4_trt.export(model, path, recipe=recipe, inputs=inputs, dynamic=("batch,sequence",), exclude=exclude)
    return load(path)


def both(model, metadata, dims):
    """Return forecasts by blocks, if there are as few as four, and whole."""
    ranges = parse_ranges(dims)
    return [Forecast(model, ranges, metadata.example_shapes, "fast", repeated=n) for n in (4, NEVER)]


def told(predicted):
    """Return all that a plan is made of."""
    kernels = [
        (kernel.row.name, kernel.layers, kernel.kind, kernel.what, kernel.row.type, sides(kernel.row))
        for kernel in predicted.kernels
    ]
    return kernels, predicted.weight_bytes, predicted.engine_bytes, predicted.notes


def sides(row):
    return [[(each.dims, each.dtype) for each in side] for side in (row.inputs, row.constants, row.outputs)]


@pytest.mark.parametrize(
    ("layers", "before", "recipe", "dims"),
    [
        (6, False, "w4a4-dynamic-token", ("batch=1:4:8", "sequence=1:32:64")),
        (9, True, "w4a4-static", ("batch=4", "sequence=32")),
    ],
)
def test_planned_by_blocks_it_is_what_it_is_planned_whole(tmp_path, layers, before, recipe, dims):
    model, metadata = exported(tmp_path / "model.onnx", recipe, layers=layers, before=before)
    blocks, whole = both(model, metadata, dims)
    for precision in ("nvfp4", "fp8", "bf16"):
        pairs = zip(blocks.candidates(precision), whole.candidates(precision), strict=True)
        for found, expected in pairs:
            assert found.parts
            assert not expected.parts
            assert told(found) == told(expected)
            assert blocks.memory(found) == whole.memory(expected)


def test_blocks_at_both_ends_may_differ(tmp_path):
    """As in mixtures that keep the first and the last block."""
    kept = ("blocks.0.*", "blocks.7.*")
    model, metadata = exported(tmp_path / "model.onnx", "w4a4-static", layers=8, exclude=kept)
    (found,), (expected,) = (each.candidates("fp8") for each in both(model, metadata, ()))
    assert found.parts
    assert told(found) == told(expected)


@pytest.mark.parametrize("options", [{"exclude": ("blocks.2.up", "blocks.4.q")}, {"every": True}])
def test_blocks_that_differ_or_are_read_later_are_planned_whole(tmp_path, options):
    model, metadata = exported(tmp_path / "model.onnx", "w4a4-static", layers=6, **options)
    found, _ = both(model, metadata, ())
    assert not found.predicted("bf16", found.candidates("bf16")[0].variant).parts


def chain(operators, sizes=()):
    """Return a graph of operators in a row, those of `sizes` with a constant of that many elements."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([4]))
    nodes, weights, value = [], [], x
    for index, operator in enumerate(operators):
        inputs = [value]
        if operator == "Add":
            tensor = ir.tensor([0.0] * sizes[len(weights)], name=f"bias.{len(weights)}")
            weights.append(ir.Value(name=tensor.name, const_value=tensor, shape=tensor.shape))
            inputs.append(weights[-1])
        nodes.append(ir.node(operator, inputs, name=f"{index}/{operator}"))
        value = nodes[-1].outputs[0]
        value.name = f"t{index}"
    return ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 23}, name="chain")


def test_a_run_is_as_long_as_blocks_are_alike():
    assert find_run(chain(["Abs", *["Neg", "Exp"] * 5, "Abs"])) == Run(1, 2, 5)
    assert find_run(chain(["Abs", *["Neg", "Exp", "Add"] * 5], [4] * 5)) == Run(1, 3, 5)
    assert find_run(chain(["Abs", *["Exp", "Add"] * 6], [4, 4, 4, 4, 8, 4])) == Run(1, 2, 4)
    assert find_run(chain(["Exp"])) is None


def test_blocks_in_the_middle_go_and_the_last_one_stays():
    graph = chain(["Abs", *["Exp", "Add"] * 6], [4] * 6)
    assert keep_blocks(graph, find_run(graph), 3)
    assert [node.name for node in graph] == ["0/Abs", "1/Exp", "2/Add", "3/Exp", "4/Add", "11/Exp", "12/Add"]
    assert sorted(graph.initializers) == ["bias.0", "bias.1", "bias.5"]
    assert list(graph)[5].inputs[0] is list(graph)[4].outputs[0]


def test_names_of_a_block_become_those_of_another():
    graph = chain(["Exp", "Add"] * 12, [4] * 12)
    for index, node in enumerate(graph):
        node.name = f"block.{index // 2}/{node.op_type}"
    renamed = Renaming(tuple(graph), Run(0, 2, 12), 2, 8)
    assert renamed("block.2/Exp") == "block.10/Exp"
    assert renamed("block.2.q+k/codes") == "block.10.q+k/codes"
    assert renamed("bias.1/swizzle") == "bias.9/swizzle"
    assert renamed("block.20/Exp") == "block.20/Exp"
    assert renamed("embed/Add") == "embed/Add"
