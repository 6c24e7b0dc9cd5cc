"""NVFP4 checkpoints of torchao, compressed-tensors and ModelOpt: converted, exported, built, and held bit for bit.

Run it with `python -m samples.checkpoint.demo` in an environment that has the package, its extras `rtx` and `hf`,
and the three packages. No GPU is needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
from rich.console import Console
from rich.table import Table

import nvfp4_trt
from nvfp4_trt.checkpoints import read_checkpoint
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY
from samples.checkpoint import makers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from torch import Tensor

    from nvfp4_trt.checkpoints.weights import StoredWeight

TARGET = "sm_120"
IDS = "input_ids:int64:2x8:0..90"


@dataclass(frozen=True)
class Peer:
    """A package that writes NVFP4 checkpoints."""

    name: str
    """Of its format, as `convert --to` has it."""
    make: Callable[[Path], None]
    file: str
    """What its checkpoint is called: a folder, or a safetensors file."""
    through: str
    """Another package's format, which the checkpoint goes through and back."""
    inputs: str
    factory: str | None = None
    """Of a file, which does not say what module it is of."""


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "torchao",
            lambda path: makers.save_torchao(makers.torchao_module(static=True), path),
            "torchao.safetensors",
            "compressed-tensors",
            "input:bfloat16:3x64",
            "samples.checkpoint.makers:plain_pair",
        ),
        Peer("compressed-tensors", makers.save_compressed_tensors, "compressed-tensors", "modelopt", IDS),
        Peer("modelopt", makers.save_modelopt, "modelopt", "compressed-tensors", IDS),
    )
}


@dataclass(frozen=True)
class Found:
    """What arrived of one checkpoint."""

    weights: int
    packed_bytes: int
    """Of codes and block scales in the checkpoint."""
    back: int
    """Weights whose codes and scales, static input scales among them, are the same after two conversions."""
    portable: int
    """Weights whose codes and scales are in the portable file."""
    lowered: int
    """Weights whose codes and block scales are in the file that TensorRT builds from."""
    asked: int
    fp4: int
    """GEMMs of the engine that are FP4, or weights that are, by its audit."""

    @property
    def whole(self) -> bool:
        """Whether nothing was lost on the way."""
        return self.back == self.portable == self.lowered == self.weights and self.fp4 == self.asked


def follow(peer: Peer, folder: Path) -> Found:
    """Make a checkpoint and take it through every step.

    Args:
        peer: who makes it.
        folder: an empty folder for the files.

    Raises:
        Fp4LostError: a GEMM of the engine is not FP4.
        Nvfp4Error: any other step failed.
    """
    source = folder / peer.file
    peer.make(source)
    nvfp4_trt.convert(source, folder / peer.through, to=peer.through)
    back = folder / f"back-{peer.file}"
    nvfp4_trt.convert(folder / peer.through, back, to=peer.name)

    artifact = nvfp4_trt.export(source, folder / "model.onnx", factory=peer.factory, input_specs=[peer.inputs])
    lowered = folder / "model.trt.onnx"
    engine = nvfp4_trt.build(artifact, folder / "model.engine", targets=(TARGET,), lowered=lowered)

    weights, again = read_checkpoint(source).weights, read_checkpoint(back).weights
    audits = [engine.audit.counts(kind) for kind in (NVFP4, WEIGHT_ONLY)]
    return Found(
        weights=len(weights),
        packed_bytes=sum(stored.packed.numel() + stored.block_scale.numel() for stored in weights.values()),
        back=sum(name in again and same(stored, again[name]) for name, stored in weights.items()),
        portable=in_portable(weights.values(), artifact.path),
        lowered=in_lowered(weights.values(), lowered),
        asked=sum(asked for asked, _ in audits),
        fp4=sum(found for _, found in audits),
    )


def same(one: StoredWeight, other: StoredWeight) -> bool:
    """Return whether two checkpoints have the same codes and scales, and the same static input scale."""
    return (raw(one.packed), raw(one.block_scale), one.scale, one.activation) == (
        raw(other.packed),
        raw(other.block_scale),
        other.scale,
        other.activation,
    )


def in_portable(weights: Collection[StoredWeight], path: Path) -> int:
    """Count the weights of a checkpoint whose codes, block scales and scale are a portable file's own."""
    graph = onnx.load(path).graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.input[0]: node for node in graph.node if node.op_type == "Dequantize"}
    count = 0
    for stored in weights:
        codes, block_scale, scale = nodes[stored.name + "_packed"].input
        count += (
            held[codes].raw_data == raw(stored.packed)
            and held[block_scale].raw_data == raw(stored.block_scale)
            and stored.scale is not None
            and onnx.numpy_helper.to_array(held[scale]).item() == stored.scale.multiplier()
        )
    return count


def in_lowered(weights: Collection[StoredWeight], path: Path) -> int:
    """Count the weights whose codes and block scales lie, as they are, in a lowered file.

    Layers that share an input may be one GEMM there: a weight is then a run of rows of an initializer.
    """
    held = [tensor.raw_data for tensor in onnx.load(path).graph.initializer]
    return sum(
        all(any(raw(part) in data for data in held) for part in (each.packed, each.block_scale))
        for each in weights
    )


def raw(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def summary(found: dict[str, Found]) -> Table:
    """Return the table of what arrived."""
    table = Table(title="Weights whose codes and scales arrived, bit for bit", title_justify="left", box=None)
    table.add_column("made by")
    for column in ("weights", "packed bytes", "converted and back", "in ONNX", "lowered", "GEMMs in FP4"):
        table.add_column(column, justify="right")
    for name, each in found.items():
        table.add_row(
            name,
            str(each.weights),
            f"{each.packed_bytes:,}",
            f"{each.back} of {each.weights}",
            f"{each.portable} of {each.weights}",
            f"{each.lowered} of {each.weights}",
            f"{each.fp4} of {each.asked}",
        )
    return table


def commands(peer: Peer, folder: Path) -> list[str]:
    """Return the commands that do the same."""
    source, onnx_path, engine = (folder / name for name in (peer.file, "model.onnx", "model.engine"))
    factory = f" --model {peer.factory}" if peer.factory else ""
    return [
        f"nvfp4-trt convert {source} {folder / 'converted'} --to {peer.through}",
        f"nvfp4-trt export {source} -o {onnx_path} --input {peer.inputs}{factory}",
        f"nvfp4-trt build engine {onnx_path} -o {engine} --target {TARGET}",
        f"nvfp4-trt inspect {engine}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow the checkpoints that were asked for; return 1 where a bit or an FP4 GEMM was lost."""
    parser = argparse.ArgumentParser(prog="python -m samples.checkpoint.demo", description=__doc__)
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this one; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("out/checkpoint"), help="a new folder for the files")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    found = {}
    for name in options.peer or PEERS:
        folder = options.output / name
        if folder.exists():
            parser.error(f"{folder} exists: remove it, or name another --output")
        folder.mkdir(parents=True)
        console.print(f"{name}: make, convert and back, export, build, audit …")
        try:
            found[name] = follow(PEERS[name], folder)
        except Nvfp4Error as error:
            told = f"error[{error.code}]: {error.message}\nhint: {error.hint}"
            console.print(told, markup=False, soft_wrap=True)
            return error.exit_status
    console.print("", summary(found), "\nThe same from the command line, for the last one:")
    for line in commands(PEERS[name], options.output / name):
        console.print(line, markup=False, soft_wrap=True)
    return int(not all(each.whole for each in found.values()))


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    warnings.simplefilter("ignore")
    sys.exit(main())
