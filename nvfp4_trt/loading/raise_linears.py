"""Turning the `aten.linear` calls of an exported graph back into `nn.Linear` modules.

Quantization replaces `nn.Linear` modules, and an exported graph has none: only calls that read their
weights as attributes. Each is given its module back, under its parameter's qualified name. The module
calls the same operator on the same tensors, so results stay the same bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import fx, nn

_LINEAR = torch.ops.aten.linear.default
_ADDMM = torch.ops.aten.addmm.default
_MM = torch.ops.aten.mm.default
_TRANSPOSES = {torch.ops.aten.t.default: (), torch.ops.aten.permute.default: ([1, 0],)}
_MATRIX = 2  # dimensions


class Raised(NamedTuple):
    """A graph whose linears are modules.

    Attributes:
        module: a plain `GraphModule`, without the checks of input shapes that an exported one has.
        names: the qualified name of each raised `nn.Linear`, in the order of the graph.
        left: how many linears stay operators, because their weight is computed in the graph, or is
            an argument of a nested graph (a branch of `torch.cond`).
    """

    module: fx.GraphModule
    names: tuple[str, ...]
    left: int


class _Operands(NamedTuple):
    data: fx.Node
    weight: str  # the qualified name of its attribute
    bias: str | None


def raise_linears(exported: fx.GraphModule) -> Raised:
    """Replace each linear that reads its weight as an attribute by an `nn.Linear` call.

    Understood are `aten.linear`, and what a decomposed program holds in its place: `aten.addmm` or
    `aten.mm` with a transposed weight. Linears with the same weight and bias share one module; those with
    the same weight and another bias get modules that share the weight. Where something else reads a raised
    weight (a tied embedding), it gets an attribute of its own, so that replacing the linear leaves it be.

    Args:
        exported: what `ExportedProgram.module(check_guards=False)` returned; its graph is changed.
    """
    graph = exported.graph
    home = _Home(exported)
    made: dict[tuple[str, str | None], str] = {}
    left = sum(len(inner.graph.find_nodes(op="call_function", target=_LINEAR)) for inner in _nested(exported))
    for node in list(graph.nodes):
        operands = _operands(node, exported)
        if operands is None:
            left += node.op == "call_function" and node.target is _LINEAR
            continue
        key = (operands.weight, operands.bias)
        if key not in made:
            made[key] = home.add_linear(*key)
        with graph.inserting_before(node):
            call = graph.call_module(made[key], (operands.data,))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    home.move_other_readers()
    for node in reversed(list(graph.nodes)):
        if (node.op == "get_attr" and not node.users) or _is_dead_transpose(node):
            graph.erase_node(node)
    graph.lint()
    return Raised(fx.GraphModule(exported, graph, "Program"), tuple(made.values()), left)


def _nested(root: fx.GraphModule) -> list[fx.GraphModule]:
    """Return the graphs that higher-order operators call: their weights are arguments, not attributes."""
    return [m for m in root.modules() if isinstance(m, fx.GraphModule) and m is not root]


def _operands(node: fx.Node, root: fx.GraphModule) -> _Operands | None:
    """Return what a linear call reads, or None where it is no linear over an attribute."""
    if node.op != "call_function" or node.kwargs:
        return None
    data: object
    weight: object
    bias: object = None
    if node.target is _LINEAR:
        data, weight, *rest = node.args
        bias = rest[0] if rest else None
    elif node.target is _MM:
        data, weight = node.args[0], _untransposed(node.args[1])
    elif node.target is _ADDMM:
        bias, data, weight = node.args[0], node.args[1], _untransposed(node.args[2])
    else:
        return None
    weight_name, bias_name = _attribute(weight), _attribute(bias)
    if weight_name is None or not isinstance(data, fx.Node) or (bias is not None and bias_name is None):
        return None
    shape = _tensor(root, weight_name).shape
    if len(shape) != _MATRIX or (bias_name and _tensor(root, bias_name).shape != shape[:1]):
        return None  # addmm's bias may broadcast over rows: no `nn.Linear` does that
    return _Operands(data, weight_name, bias_name)


def _untransposed(node: object) -> object:
    if isinstance(node, fx.Node) and node.target in _TRANSPOSES and node.args[1:] == _TRANSPOSES[node.target]:
        return node.args[0]
    return None


def _is_dead_transpose(node: fx.Node) -> bool:
    return node.target in _TRANSPOSES and not node.users


def _attribute(node: object) -> str | None:
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _tensor(root: nn.Module, name: str) -> torch.Tensor:
    owner, _, leaf = name.rpartition(".")
    tensor = getattr(root.get_submodule(owner), leaf)
    return tensor if isinstance(tensor, torch.Tensor) else torch.empty(0)


class _Home:
    """Where the raised modules go in the root's tree, and where what they displace goes."""

    def __init__(self, root: fx.GraphModule) -> None:
        self._root = root
        # collected before any module is put in: the linears will hold the same tensors under the same names
        self._tensors = {
            str(node.target): _tensor(root, str(node.target))
            for node in root.graph.find_nodes(op="get_attr")
            if "." in str(node.target) or isinstance(getattr(root, str(node.target)), torch.Tensor)
        }
        self._linears: set[str] = set()

    def add_linear(self, weight: str, bias: str | None) -> str:
        """Put an `nn.Linear` of two attributes into the tree and return its qualified name."""
        tensor = self._tensors[weight]
        features_out, features_in = tensor.shape
        with torch.device("meta"):
            linear = nn.Linear(features_in, features_out, bias=bias is not None, dtype=tensor.dtype)
        linear.weight = _as_parameter(tensor)
        if bias is not None:
            linear.bias = _as_parameter(self._tensors[bias])
        name = self._name_for(weight, bias)
        self._linears.add(name)
        owner, _, leaf = name.rpartition(".")
        setattr(self._root.get_submodule(owner), leaf, linear)
        return name

    def _name_for(self, weight: str, bias: str | None) -> str:
        owner, _, leaf = weight.rpartition(".")
        if leaf != "weight":
            name = f"{weight}_linear"
        else:
            name = owner if owner and self._holds_only(owner, weight, bias) else f"{owner}.linear".lstrip(".")
        unique, count = name, 1
        while unique in self._linears or (unique != owner and self._exists(unique)):
            unique, count = f"{name}_{count}", count + 1
        return unique

    def _holds_only(self, owner: str, weight: str, bias: str | None) -> bool:
        """Whether nothing but these two is read below a name: a module there would hide it."""
        inside = {name for name in self._tensors if name.startswith(f"{owner}.")}
        allowed = {weight, bias, f"{owner}.bias"}
        return inside <= allowed and not list(self._root.get_submodule(owner).named_children())

    def _exists(self, name: str) -> bool:
        owner, _, leaf = name.rpartition(".")
        try:
            return hasattr(self._root.get_submodule(owner), leaf)
        except AttributeError:
            return False

    def move_other_readers(self) -> None:
        """Give whatever else reads a tensor of a raised module an attribute of its own."""
        moved: dict[str, str] = {}
        for node in self._root.graph.find_nodes(op="get_attr"):
            name = str(node.target)
            if node.users and name.rpartition(".")[0] in self._linears and not _only_transposes(node):
                node.target = moved.setdefault(name, self._alias(name))
        for name, alias in moved.items():
            tensor = self._tensors[name]
            if isinstance(tensor, nn.Parameter):
                self._root.register_parameter(alias, tensor)
            else:
                self._root.register_buffer(alias, tensor)

    def _alias(self, name: str) -> str:
        alias = f"{name.replace('.', '_')}_shared"
        return f"{alias}_" if self._exists(alias) else alias


def _only_transposes(node: fx.Node) -> bool:
    return all(_is_dead_transpose(user) for user in node.users)


def _as_parameter(tensor: torch.Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
