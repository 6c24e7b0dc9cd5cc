"""Which dtype and format each tensor of a plugin may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvfp4_trt.errors import PluginNodeError
from nvfp4_trt.plugin.fields import QuantizeFields
from nvfp4_trt.plugin.shapes import tensor_dtypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.plugin.fields import Fields

FLOATS = ("f16", "bf16", "f32")


def supported(fields: Fields, dtypes: Sequence[str], linear: Sequence[bool]) -> bool:
    """Return whether a tensor may be what TensorRT proposes.

    Args:
        fields: the node's attributes.
        dtypes: this package's names of the dtypes of inputs, then outputs, up to the tensor in question, which
            is the last; TensorRT leaves later ones undefined.
        linear: for each of them, whether its elements lie row by row.
    """
    names = (*fields.inputs, *fields.outputs)
    if not 1 <= len(dtypes) <= len(names) or not linear[len(dtypes) - 1]:
        return False
    if isinstance(fields, QuantizeFields) and dtypes[0] not in FLOATS:
        return False
    name = names[len(dtypes) - 1]
    return tensor_dtypes(fields, dtypes[0])[name] == dtypes[-1]


def output_dtypes(fields: Fields, inputs: Sequence[str]) -> list[str]:
    """Return the dtypes of a node's outputs.

    Raises:
        PluginNodeError: an input is missing, or of a dtype that no kernel reads.
    """
    if len(inputs) != len(fields.inputs):
        raise PluginNodeError(
            f"the plugin node has {len(inputs)} inputs, and by its attributes {len(fields.inputs)}",
            f"they are {', '.join(fields.inputs)}",
        )
    quantizes = isinstance(fields, QuantizeFields)
    allowed = tensor_dtypes(fields, inputs[0])
    for name, dtype in zip(fields.inputs, inputs, strict=True):
        wanted = FLOATS if quantizes and name == "x" else (allowed[name],)
        if dtype not in wanted:
            raise PluginNodeError(f"the plugin's input {name} is {dtype}", f"it must be {' or '.join(wanted)}")
    return [allowed[name] for name in fields.outputs]
