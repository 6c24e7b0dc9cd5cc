"""An engine's layer record: one row for each step that the engine runs, with operand types."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_LAUNCHES = frozenset({"wait", "signal", "reshape", "cast"})
"""Row types that start no kernel of their own."""
BITS = {
    "FP4E2M1": 4,
    "FP4": 4,
    "FP8": 8,
    "Half": 16,
    "BFloat16": 16,
    "BF16": 16,
    "Float": 32,
    "Int32": 32,
    "Int64": 64,
    "Int8": 8,
    "UInt8": 8,
    "Bool": 8,
    "Int4": 4,
}
"""Bits of an element, by TensorRT's name of the dtype."""

_MATRIX = 2

_ROW = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), (?P<rest>.*)$")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Constants|Outputs|TacticName))")
_OPERAND = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[^\]]*)\].*?Datatype: (?P<dtype>[^,}]+)")
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


class Operand(BaseModel):
    """One tensor of a row."""

    name: str
    dims: tuple[int, ...]
    """-1 where dynamic."""
    dtype: str
    """TensorRT's name, such as FP4E2M1, FP8, Half, Float."""

    @property
    def is_fp4(self) -> bool:
        """Whether its elements are e2m1 codes."""
        return self.dtype.startswith("FP4")

    @property
    def nbytes(self) -> int:
        """Bytes of a constant (0 where a dimension is dynamic)."""
        return max(0, math.prod(self.dims)) * BITS.get(self.dtype, 32) // 8


class Row(BaseModel):
    """One row of the record."""

    name: str
    type: str
    """`gemm`, `kgen` (a generated kernel), `cast`, `wait`, …"""
    inputs: tuple[Operand, ...]
    constants: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    onnx: tuple[str, ...]
    """Names of the ONNX nodes that the row computes."""

    @property
    def is_launch(self) -> bool:
        """Whether the row counts as a kernel launch."""
        return self.type not in NOT_LAUNCHES

    @property
    def is_fp4_gemm(self) -> bool:
        """Whether the row is a GEMM that reads e2m1 codes on both sides."""
        both = (self.inputs, self.constants)
        constant_weight = all(any(o.is_fp4 for o in side) for side in both)
        two_inputs = sum(o.is_fp4 for o in self.inputs) > 1
        return self.type == "gemm" and (constant_weight or two_inputs)

    @property
    def is_fp8_gemm(self) -> bool:
        """Whether the row is a GEMM that reads e4m3 codes on both sides; block scales of e2m1 codes are none."""
        operands = (*self.inputs, *self.constants)
        inputs = sum(o.dtype == "FP8" for o in self.inputs)
        constant_weight = inputs and any(o.dtype == "FP8" for o in self.constants)
        return self.type == "gemm" and not any(o.is_fp4 for o in operands) and bool(constant_weight or inputs > 1)

    @property
    def is_plugin(self) -> bool:
        """Whether the row is a plugin's layer, of whose work the record says nothing."""
        return self.type.startswith("Plugin")

    @property
    def reads_fp4_weight(self) -> bool:
        """Whether the row reads a constant of e2m1 codes."""
        return any(operand.is_fp4 for operand in self.constants)

    @property
    def reads_fp8_weight(self) -> bool:
        """Whether the row reads a constant matrix of e4m3 codes, and none of e2m1 codes."""
        codes = any(operand.dtype == "FP8" and len(operand.dims) == _MATRIX for operand in self.constants)
        return codes and not self.reads_fp4_weight


def parse_record(text: str) -> list[Row]:
    """Parse a layer record: the builder log's `Layers:` dump, or the engine inspector's JSON.

    Raises:
        ValueError: the text holds no row.
    """
    stripped = text.strip()
    rows = list(_from_json(json.loads(stripped)) if stripped.startswith("{") else _from_log(stripped))
    if not rows:
        raise ValueError("the layer record is empty")
    return rows


def _from_log(text: str) -> Iterator[Row]:
    for line in text.splitlines():
        if line.startswith("I/O Tensors"):
            return
        match = _ROW.match(line.strip())
        if match is None:
            continue
        rest = match["rest"]
        sections = {name: _operands(body) for name, body in _SECTION.findall(rest)}
        yield Row(
            name=match["name"],
            type=match["type"],
            inputs=sections.get("Inputs", ()),
            constants=sections.get("Constants", ()),
            outputs=sections.get("Outputs", ()),
            onnx=tuple(_ONNX.findall(rest)),
        )


def _operands(body: str) -> tuple[Operand, ...]:
    return tuple(
        Operand(name=m["name"], dims=_numbers(m["dims"]), dtype=m["dtype"].strip())
        for m in _OPERAND.finditer(body)
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _from_json(data: dict[str, Any]) -> Iterator[Row]:
    for layer in data.get("Layers", []):
        if not isinstance(layer, dict):  # the inspector gives bare names where profiling is not detailed
            continue
        name, kind = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
        nodes = tuple(_ONNX.findall(str(layer.get("Metadata", ""))))
        if not nodes and kind.startswith("Plugin"):
            nodes = (name,)  # the parser gives a plugin's layer the name of its node
        yield Row(
            name=name,
            type=kind,
            inputs=_json_operands(layer.get("Inputs", [])),
            constants=_json_operands(layer.get("Constants", [])),
            outputs=_json_operands(layer.get("Outputs", [])),
            onnx=nodes,
        )


def _json_operands(operands: list[dict[str, Any]]) -> tuple[Operand, ...]:
    return tuple(
        Operand(
            name=str(o.get("Name", "")),
            dims=tuple(int(d) for d in o.get("Dimensions", [])),
            dtype=str(o.get("Datatype") or o.get("Format/Datatype", "")),
        )
        for o in operands
    )
