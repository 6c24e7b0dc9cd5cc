"""What TensorRT's own objects say, in this package's words: dimensions, dtypes, formats, fields."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.fields import FIELDS, field_values, read_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvfp4_trt.plugin.fields import Fields

DTYPES = {"f16": "HALF", "bf16": "BF16", "f32": "FLOAT", "i8": "INT8"}
"""This package's names of dtypes → TensorRT's."""
_OURS = {theirs: ours for ours, theirs in DTYPES.items()}


class Expressions:
    """Dimensions that are TensorRT's symbolic expressions: an `Arithmetic` over `IDimensionExpr`.

    Args:
        trt: the TensorRT module.
        builder: the `IExprBuilder` of one call of `get_output_shapes`; its expressions die with that call.
    """

    def __init__(self, trt: Any, builder: Any) -> None:
        self._operations = trt.DimensionOperation
        self._builder = builder

    def constant(self, value: int) -> Any:
        """Return the expression of a number."""
        return self._builder.constant(value)

    def product(self, a: Any, b: Any) -> Any:
        """Return a · b."""
        return self._builder.operation(self._operations.PROD, a, b)

    def divided(self, a: Any, by: int) -> Any:
        """Return floor(a / by)."""
        return self._builder.operation(self._operations.FLOOR_DIV, a, self.constant(by))

    def divided_up(self, a: Any, by: int) -> Any:
        """Return ceil(a / by)."""
        return self._builder.operation(self._operations.CEIL_DIV, a, self.constant(by))


def our_dtype(dtype: Any) -> str:
    """Return this package's name of a `trt.DataType`; TensorRT's own where it has none."""
    name = str(dtype.name)
    return _OURS.get(name, name)


def their_dtype(trt: Any, dtype: str) -> Any:
    """Return the `trt.DataType` of a dtype."""
    return getattr(trt.DataType, DTYPES[dtype])


def fields_from(plugin: str, collection: Iterable[Any]) -> Fields:
    """Read the record of a node's attributes out of a `PluginFieldCollection`.

    Raises:
        PluginNodeError: see `read_fields`.
    """
    given: dict[str, Any] = {}
    for each in collection:
        try:
            given[each.name] = each.data
        except (RuntimeError, TypeError, ValueError) as error:
            raise PluginNodeError(f"{plugin}: {each.name} cannot be read: {error}", "see the log") from error
    return read_fields(plugin, given)


@dataclass(frozen=True)
class FieldCollection:
    """A `PluginFieldCollection` with the memory that it points to.

    TensorRT's bindings keep addresses only: without the arrays, fields change once their memory is used again.
    """

    collection: Any
    memory: tuple[Any, ...]


def serialized_fields(trt: Any, record: Fields) -> FieldCollection:
    """Return every attribute of a record with its value, which `fields_from` reads again."""
    values = field_values(record)
    memory = tuple(
        np.frombuffer(value.encode("ascii"), np.int8)
        if isinstance(value, str)
        else np.array([value], _dtype(value))
        for value in values.values()
    )
    named = zip(values.items(), memory, strict=True)
    found = [trt.PluginField(name, array, _kind(trt, value)) for (name, value), array in named]
    return FieldCollection(trt.PluginFieldCollection(found), (found, memory))


def declared_fields(trt: Any, plugin: str) -> FieldCollection:
    """Return the attributes that the ONNX parser is to pass on, each with its type and without a value."""
    kinds: dict[str, Any] = {
        each.name: {"str": "", "int": 0, "float": 0.0}[str(each.type)] for each in fields(FIELDS[plugin])
    }
    memory = tuple(np.array([], _dtype(value)) for value in kinds.values())
    named = zip(kinds.items(), memory, strict=True)
    found = [trt.PluginField(name, array, _kind(trt, value)) for (name, value), array in named]
    return FieldCollection(trt.PluginFieldCollection(found), (found, memory))


def _dtype(value: str | float) -> Any:
    if isinstance(value, str):
        return np.int8
    return np.float32 if isinstance(value, float) else np.int32


def _kind(trt: Any, value: str | float) -> Any:
    if isinstance(value, str):
        return trt.PluginFieldType.CHAR
    return trt.PluginFieldType.FLOAT32 if isinstance(value, float) else trt.PluginFieldType.INT32
