"""Time and peak memory of `nvfp4-trt check` on a float ONNX file of a billion parameters with external data.

The data is a sparse file, which takes no space on the disk. Exits with 1 if a goal is missed: 10 s and 500 MB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from children import last_json, measure

LAYERS, WIDTH = 96, 3264
SECONDS, MEGABYTES = 10, 500
SIZE = 2 * WIDTH * WIDTH
"""Bytes of one weight, in fp16."""


def write(folder: Path) -> None:
    """Write the model: layers of WIDTH x WIDTH behind one another, which share nothing."""
    import onnx
    from onnx import TensorProto, helper

    nodes, weights = [], []
    for i in range(LAYERS):
        name = f"layers.{i}.weight"
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.data"), ("offset", i * SIZE), ("length", SIZE)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
        nodes += [
            helper.make_node("MatMul", [f"t{i}", name], [f"p{i}"], name=f"layers.{i}"),
            helper.make_node("Relu", [f"p{i}"], [f"t{i + 1}"], name=f"relu.{i}"),
        ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["rows", WIDTH]) for n in ("t0", f"t{LAYERS}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    with (folder / "model.data").open("wb") as file:
        file.truncate(LAYERS * SIZE)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), folder / "model.onnx")


def main() -> None:
    """Read the command line, write the model in a process of its own, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write)
        return
    with tempfile.TemporaryDirectory() as name:
        measure([sys.executable, __file__, "--write", name])
        took = measure([sys.executable, "-m", "nvfp4_trt.cli", "check", Path(name) / "model.onnx", "--json"])
    found = {
        "parameters": LAYERS * WIDTH * WIDTH,
        "layers": len(last_json(took.stdout)["layers"]),
        "wall_s": round(took.wall_s, 2),
        "peak_mb": round(took.peak_bytes / 1e6),
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['parameters']:,} parameters in {found['layers']} layers: "
            f"{found['wall_s']} s (goal: {SECONDS}), {found['peak_mb']} MB (goal: {MEGABYTES})"
        )
    sys.exit(found["wall_s"] > SECONDS or found["peak_mb"] > MEGABYTES)


if __name__ == "__main__":
    main()
