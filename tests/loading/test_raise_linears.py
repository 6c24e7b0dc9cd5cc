"""Programs: their linears become modules again, bit for bit, and they can be exported again."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nvfp4_trt.errors import WrongKindError
from nvfp4_trt.loading import SourceKind, flatten_outputs, load_model

DYNAMIC = torch.export.Dim.DYNAMIC


class Tied(nn.Module):
    """A weight used by an embedding and by three linears, with no bias, one bias, and another."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.table.weight
        self.bias = nn.Parameter(torch.randn(10))
        self.other = nn.Parameter(torch.randn(10))
        self.plain = nn.Parameter(torch.randn(8, 8))

    def forward(self, ids):
        x = F.linear(self.table(ids), self.plain)
        w = self.head.weight
        return self.head(x), self.head(x + 1), F.linear(x, w, self.bias), F.linear(x, w, self.other)


class Attention(nn.Module):
    """A packed projection, a convolution, shapes computed from shapes, and a name with a dash."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.scales = nn.ParameterDict({"per-channel": nn.Parameter(torch.randn(8))})

    def forward(self, x):
        x = x[:, : x.shape[1] // 2] * self.scales["per-channel"]
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.attention(x, x, x, need_weights=False)[0]


def ids(rows, columns):
    return torch.arange(rows * columns).reshape(rows, columns) % 10


CASES = {
    "two linears": (
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8, bias=False)),
        torch.randn,
    ),
    "tied": (Tied, ids),
    "attention": (Attention, lambda rows, columns: torch.randn(rows, columns, 8)),
}
NAMES = {
    "two linears": {"0", "2"},
    "tied": {"head", "head_1", "head_2", "plain_linear"},
    "attention": {"attention.in_proj_weight_linear", "attention.out_proj"},
}


def linears(module):
    return {name for name, inner in module.named_modules() if isinstance(inner, nn.Linear)}


def save(module, args, path="p.pt2", decompose=False, **options):
    program = torch.export.export(module.eval(), args, **options)
    torch.export.save(program.run_decompositions() if decompose else program, path)


@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_raised_equals_original_and_exports_again(here, case, decompose):
    torch.manual_seed(0)
    make, inputs = CASES[case]
    module = make()
    save(module, (inputs(4, 8),), dynamic_shapes=({0: DYNAMIC},), decompose=decompose)
    reference = torch.export.load("p.pt2").module()
    loaded = load_model("p.pt2")
    assert loaded.kind is SourceKind.PROGRAM
    assert not loaded.module.training
    # decomposed attention multiplies an expanded weight by bmm: that one cannot be raised
    lost = {"attention.in_proj_weight_linear"} if decompose else set()
    assert linears(loaded.module) == NAMES[case] - lost
    for rows in (4, 2, 7):
        given = inputs(rows, 8)
        expected, got = flatten_outputs(reference(given)), flatten_outputs(loaded.module(given))
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[name], got[name]) for name in expected)
    again = torch.export.export(loaded.module, (inputs(5, 8),), dynamic_shapes=({0: DYNAMIC},))
    assert again.range_constraints
    given = inputs(3, 8)
    expected, got = flatten_outputs(module(given)), flatten_outputs(again.module()(given))
    assert all(torch.allclose(expected[name], got[name], atol=1e-6) for name in expected)


def test_replacing_a_tied_linear_leaves_the_embedding_be(here):
    save(Tied(), (ids(2, 3),))
    module = load_model("p.pt2").module
    before = module(ids(2, 3))
    for name in linears(module):
        old = module.get_submodule(name)
        new = nn.Sequential(nn.Linear(old.in_features, old.out_features, old.bias is not None))
        new[0].load_state_dict(old.state_dict())
        module.set_submodule(name, new)
    assert all(torch.equal(a, b) for a, b in zip(before, module(ids(2, 3)), strict=True))


def test_the_exported_ranges_do_not_hold_inputs_back(here, net):
    batch = torch.export.Dim("batch", min=2, max=4)
    save(net, (torch.ones(3, 8),), dynamic_shapes={"x": {0: batch}})
    x = torch.randn(9, 8)
    with pytest.raises((AssertionError, RuntimeError)):
        torch.export.load("p.pt2").module()(x)
    assert torch.equal(load_model("p.pt2").module(x), net(x))


def test_notes_and_example(here, net):
    save(net, (torch.full((2, 8), 3.0), torch.ones(1)))
    loaded = load_model("p.pt2")
    assert list(loaded.example) == ["x", "scale"]
    assert torch.equal(loaded.example["x"], torch.full((2, 8), 3.0))
    assert loaded.notes[0] == "raised 2 linear operators to nn.Linear modules"
    assert loaded.notes[1].startswith("the program was exported with fixed shapes")


def test_inputs_that_were_none_are_not_asked_for(here, net):
    save(net, (torch.ones(2, 8), None))
    loaded = load_model("p.pt2")
    assert list(loaded.example) == ["x"]
    assert torch.equal(loaded.module(x=torch.ones(2, 8)), net(torch.ones(2, 8)))


def test_a_linear_of_a_linear_at_the_root(here):
    save(nn.Linear(8, 4), (torch.ones(2, 8),))
    assert linears(load_model("p.pt2").module) == {"linear"}


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return torch.cond(x.sum() > 0, self.project, lambda x: x * 2, (x,))

    def project(self, x):
        return self.inner(x)


def test_linears_in_branches_stay_and_are_told_of(here):
    module = Branches()
    save(module, (torch.ones(2, 8),))
    loaded = load_model("p.pt2")
    assert "1 linear operators read no weight of their own, and stay operators" in loaded.notes
    assert torch.equal(loaded.module(torch.ones(2, 8)), module(torch.ones(2, 8)))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, pair):
        return self.inner(pair[0]) + pair[1]


def test_nested_inputs_run_but_give_no_example(here):
    module = Nested()
    pair = [torch.randn(2, 8), torch.randn(2, 8)]
    save(module, (pair,))
    loaded = load_model("p.pt2")
    assert loaded.example is None
    assert "the program's own example inputs are not all tensors, and are not used" in loaded.notes
    assert torch.equal(loaded.module(pair), module(pair))


def test_a_program_takes_no_factory(here, net):
    save(net, (torch.ones(2, 8),))
    with pytest.raises(WrongKindError, match=r"a torch\.export program"):
        load_model("p.pt2", factory="a:b")
