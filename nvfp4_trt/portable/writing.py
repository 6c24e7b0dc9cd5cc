"""Writing a model tensor by tensor: never more of its weights in memory than one tensor, or a piece of a file.

A file with its weights inside is a protobuf message of messages; each states its length before its content. The
small parts are serialized as always, and the weights' bytes are put in their places while the file is written.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import onnx
import onnx_ir as ir

from nvfp4_trt.errors import FileTruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    _Proto = onnx.ModelProto | onnx.GraphProto | onnx.TensorProto

_PIECE = 1 << 23
"""Bytes of a file that are copied at once."""

# Field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9
_LENGTH_DELIMITED = 2  # https://protobuf.dev/programming-guides/encoding/#structure


class _Placed(NamedTuple):
    """A large initializer, and where its bytes are to be."""

    value: ir.Value
    tensor: ir.TensorProtocol
    offset: int


class _Raw(NamedTuple):
    """The bytes of an initializer, where they stand in the file."""

    name: str
    tensor: ir.TensorProtocol


def write_beside(model: ir.Model, path: Path, data: Path, *, at_least: int) -> None:
    """Write a model with the initializers of `at_least` bytes in `data`, one after another."""
    placed: list[_Placed] = []
    end = 0
    for graph in model.graphs():
        for value in graph.initializers.values():
            if _is_large(value, at_least):
                placed.append(_Placed(value, value.const_value, end))  # type: ignore[arg-type]
                end += value.const_value.nbytes  # type: ignore[union-attr]
    with data.open("wb") as file:
        for each in placed:
            _write_tensor(file, each.tensor)
    with _as_external(placed, data.name), _small_inside(model, at_least):
        path.write_bytes(ir.serde.serialize_model(model).SerializeToString())


def write_whole(model: ir.Model, path: Path, outline: Path, *, at_least: int) -> None:
    """Write a model as one file, and an outline of it.

    Args:
        model: its weights and all else come to less than 2 GiB.
        path: the file.
        outline: the same model, whose initializers of `at_least` bytes are read from `path`; in the same folder.
        at_least: other initializers are serialized with the graph.
    """
    large = [
        _Placed(value, value.const_value, 0)  # type: ignore[arg-type]
        for value in model.graph.initializers.values()
        if _is_large(value, at_least)
    ]
    with _as_external(large, path.name), _small_inside(model, at_least):
        proto = ir.serde.serialize_model(model)
    tensors = {each.value.name: each.tensor for each in large}
    offsets = {}
    with path.open("wb") as file:
        for piece in _pieces(proto, tensors):
            if isinstance(piece, bytes):
                file.write(piece)
            else:
                offsets[piece.name] = file.tell()
                _write_tensor(file, piece.tensor)
    for initializer in proto.graph.initializer:
        for entry in initializer.external_data:
            if entry.key == "offset":
                entry.value = str(offsets[initializer.name])
    outline.write_bytes(proto.SerializeToString())


def _is_large(value: ir.Value, at_least: int) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype != ir.DataType.STRING and tensor.nbytes >= at_least


@contextmanager
def _as_external(placed: Sequence[_Placed], location: str) -> Iterator[None]:
    """Let the model's large tensors be references to a file, while it is serialized."""
    for value, tensor, offset in placed:
        reference = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name or "",
        )
        value.const_value = reference
    try:
        yield
    finally:
        for value, tensor, _ in placed:
            value.const_value = tensor


@contextmanager
def _small_inside(model: ir.Model, at_least: int) -> Iterator[None]:
    """Let small tensors of another file be in memory while the model is serialized, or it would name that file."""
    small = [
        (value, tensor)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(tensor := value.const_value, ir.ExternalTensor) and tensor.nbytes < at_least
    ]
    for value, tensor in small:
        value.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    try:
        yield
    finally:
        for value, tensor in small:
            value.const_value = tensor


def _pieces(proto: onnx.ModelProto, tensors: dict[str | None, ir.TensorProtocol]) -> Iterator[bytes | _Raw]:
    """Yield the message in its order: serialized parts, and the tensors whose bytes stand between them."""
    graph = proto.graph
    parts: list[bytes | _Raw] = [_fields(graph, below=_GRAPH_INITIALIZER)]
    for initializer in graph.initializer:
        tensor = tensors.get(initializer.name)
        parts += _whole(initializer) if tensor is None else _split(initializer, tensor)
    parts.append(_fields(graph, above=_GRAPH_INITIALIZER))
    yield _fields(proto, below=_MODEL_GRAPH)
    yield _head(_MODEL_GRAPH, sum(len(part) if isinstance(part, bytes) else part.tensor.nbytes for part in parts))
    yield from parts
    yield _fields(proto, above=_MODEL_GRAPH)


def _whole(initializer: onnx.TensorProto) -> list[bytes | _Raw]:
    content = initializer.SerializeToString()
    return [_head(_GRAPH_INITIALIZER, len(content)), content]


def _split(initializer: onnx.TensorProto, tensor: ir.TensorProtocol) -> list[bytes | _Raw]:
    bare = onnx.TensorProto()
    bare.CopyFrom(initializer)
    bare.ClearField("external_data")
    bare.ClearField("data_location")
    before = _fields(bare, below=_TENSOR_RAW_DATA) + _head(_TENSOR_RAW_DATA, tensor.nbytes)
    after = _fields(bare, above=_TENSOR_RAW_DATA)
    length = len(before) + tensor.nbytes + len(after)
    return [_head(_GRAPH_INITIALIZER, length) + before, _Raw(initializer.name, tensor), after]


def _fields(message: _Proto, *, below: int = 2**29, above: int = 0) -> bytes:
    """Return a message's fields with numbers between the two, both left out."""
    chosen = type(message)()
    chosen.CopyFrom(message)
    for field, _ in message.ListFields():
        if not above < field.number < below:
            chosen.ClearField(field.name)
    serialized: bytes = chosen.SerializeToString()
    return serialized


def _head(number: int, length: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    """Return seven bits a byte, the lowest first, with the eighth set where more follow."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _write_tensor(file: BinaryIO, tensor: ir.TensorProtocol) -> None:
    start = file.tell()
    if isinstance(tensor, ir.ExternalTensor):
        _copy(file, tensor)
    elif hasattr(tensor, "tofile"):
        tensor.tofile(file)  # of a torch tensor: without a copy
    else:
        file.write(tensor.tobytes())
    written = file.tell() - start
    if written != tensor.nbytes:
        raise ValueError(f"{tensor.name} is {tensor.nbytes} bytes, and {written} were written")


def _copy(file: BinaryIO, tensor: ir.ExternalTensor) -> None:
    source = os.open(tensor.path, os.O_RDONLY)
    buffer = memoryview(bytearray(min(_PIECE, tensor.nbytes)))
    try:
        done = 0
        while done < tensor.nbytes:
            got = os.preadv(source, [buffer[: tensor.nbytes - done]], (tensor.offset or 0) + done)
            if not got:
                raise FileTruncatedError(
                    f"{tensor.path} ends within the tensor {tensor.name}",
                    "it was cut short, or is still being written: fetch it again",
                )
            file.write(buffer[:got])
            done += got
    finally:
        os.close(source)
