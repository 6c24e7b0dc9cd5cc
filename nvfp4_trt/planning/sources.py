"""How long the source of a generated kernel is: an engine of TensorRT-RTX holds its kernels as C++ text.

Read off the sources in engines of TensorRT-RTX 1.7 for sm_120: each begins with the same 128 KB of helpers, then
comes the kernel. Where shapes are dynamic it is there twice, once for the profile's optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.passes import QUARTER
from nvfp4_trt.planning.operators import Role
from nvfp4_trt.portable import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx_ir as ir

    from nvfp4_trt.planning.outline import Outline

PRELUDE = 128_350
"""Bytes of the helpers that every source begins with."""
_OPERATIONS = {
    "Clip": 2,
    "LayerNormalization": 10,
    "RMSNormalization": 6,
    "Softmax": 5,
    **dict.fromkeys(("Reshape", "Transpose", "Split", "Unsqueeze", "Squeeze", "Expand", "Gather", "Slice"), 0),
    **dict.fromkeys(("Concat", "ReduceMax", "GatherND", "Range"), 0),
}
"""Operator → how many operations its text has; of others one."""
_GELU, _TANH_GELU = 7, 9
_FINISHED = 8
"""Operations that end a norm, where its statistic comes from another kernel."""
_MOVES = frozenset({"Concat", "Expand", "Gather", "GatherND", "Slice", "Split", "Transpose"})
_PICKS = frozenset({"Gather", "GatherND", "Range"})


class Text(NamedTuple):
    """What the length of a kernel's source depends on."""

    operations: int = 0
    """On elements, one by one; where it makes FP4 codes, those in front of them: they are there for each of 16."""
    moves: int = 0
    turns: int = 0
    """Transposes in front of FP4 codes."""
    splits: int = 0
    norms: int = 0
    reductions: int = 0
    """Beside those of norms."""
    reads: int = 0
    """Tensors, and vectors among the constants."""
    picks: bool = False
    codes: bool = False
    """Whether it makes FP4 codes from standard operators."""

    def bytes(self, *, dynamic: bool, narrow: bool) -> int:
        """Return the bytes behind the prelude.

        All factors by non-negative least squares over sources of BERT-, Llama- and T5-style engines of 2 to 12
        layers, 64 to 384 wide; those of GPT-2-style and ViT engines were held out.

        Args:
            dynamic: whether the graph has a dynamic dimension.
            narrow: whether that is a loosened one.
        """
        versions = 1 + dynamic
        if self.codes:
            reads = (11_027 + 4_681 * (dynamic and not narrow)) * self.reads
            before = 7_269 * self.operations + 39_844 * self.turns + 101_049 * self.splits
            return versions * (48_600 + before + reads)
        # Eight elements at a time have eight lines each.
        wide = dynamic and not self.picks and bool(self.norms or self.reductions or not narrow)
        lines = (622 if wide else 289) * self.operations + (1_802 if wide else 799) * self.moves
        return versions * (lines + 7_907 * self.norms + 3_634 * self.reductions + 803 * self.reads)


NO_TEXT = Text()
"""Of a kernel that TensorRT does not make out of operators."""


def text_of(nodes: Sequence[ir.Node], outline: Outline, *, reads: int, statistics: tuple[int, int]) -> Text:
    """Return what the source of nodes that are one kernel is like.

    Args:
        nodes: of the kernel.
        outline: of their graph.
        reads: tensors that the kernel reads at run time.
        statistics: how many norms of other kernels it ends, and how many it leaves to others.
    """
    before = _before_codes(nodes, outline)
    ended, left = statistics
    kinds = [node.op_type for node in (nodes if before is None else before)]
    operations = sum(map(_operations, nodes if before is None else before)) + _FINISHED * (ended - left)
    vectors = 0 if before is not None else sum(_vectors(node, outline) for node in nodes)
    norms = kinds.count("LayerNormalization")
    reductions = sum(outline.role(node) is Role.REDUCTION for node in nodes) - norms + kinds.count("Softmax")
    return Text(
        operations=max(0, operations),
        moves=sum(kind in _MOVES for kind in kinds),
        turns=kinds.count("Transpose"),
        splits=kinds.count("Split"),
        norms=norms,
        reductions=max(0, reductions),
        reads=reads + vectors,
        picks=any(kind in _PICKS for kind in kinds),
        codes=before is not None,
    )


def _operations(node: ir.Node) -> int:
    if node.op_type == "Gelu":
        return _TANH_GELU if node.attributes.get_string("approximate", "none") == "tanh" else _GELU
    return _OPERATIONS.get(node.op_type, 1)


def _vectors(node: ir.Node, outline: Outline) -> int:
    read = (value for value in node.inputs if value is not None and value.const_value is not None)
    return sum(outline.elements(value) > BLOCK for value in read)


def _before_codes(nodes: Sequence[ir.Node], outline: Outline) -> list[ir.Node] | None:
    """Return the nodes in front of what makes FP4 codes; None where nothing does."""
    if not any(outline.role(node) is Role.BLOCKS for node in nodes):
        return None
    reshaped = (node for node in nodes if node.op_type == "Reshape")
    parts = next((node for node in reshaped if outline.shape(node.outputs[0])[-1:] == (QUARTER,)), None)
    magnitude = next(_makers(parts), None) if parts is not None else None
    if magnitude is None:
        return None
    inside, wanted = set(nodes), dict.fromkeys(_makers(magnitude))
    for node in reversed(list(nodes)):
        if node in wanted:
            wanted.update(dict.fromkeys(_makers(node)))
    return [node for node in nodes if node in wanted and node in inside]


def _makers(node: ir.Node) -> Iterator[ir.Node]:
    for value in node.inputs:
        maker = None if value is None else value.producer()
        if maker is not None:
            yield maker
