"""Time and peak memory of `nvfp4-trt plan` on a portable ONNX file of a billion parameters with external data.

The data is a sparse file, which takes no space on the disk. `--layers 1000 --width 64` makes 10,000 nodes. Exits
with 1 above 10 s or 500 MB, the goals of `check_large.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from children import last_json, measure

LAYERS, WIDTH = 96, 3264
SECONDS, MEGABYTES = 10, 500


def write(folder: Path, layers: int, width: int) -> None:
    """Write the model: linears of one width behind one another, per token, as `nvfp4-trt export` writes them."""
    import onnx
    from onnx import TensorProto, helper

    from nvfp4_trt.layers import Layer
    from nvfp4_trt.portable import Metadata
    from nvfp4_trt.recipe import RECIPES

    offset, weights, nodes, values = 0, [], [], []

    def value(name: str, kind: int, shape: list[Any]) -> str:
        values.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(name: str, kind: int, shape: list[int], size: int) -> str:
        nonlocal offset
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, told in (("location", "model.data"), ("offset", offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(told))
        weights.append(tensor)
        offset += size
        return name

    def ours(kind: str, inputs: list[str], outputs: list[str], name: str, **attributes: int) -> None:
        nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain="nvfp4", **attributes))

    half, e4m3, blocks = TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN, width // 16
    weights.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [0.01]))
    for i in range(layers):
        name, x = f"layers.{i}", f"t{i}"
        packed = weight(f"{name}.weight_packed", TensorProto.UINT8, [width, width // 2], width * width // 2)
        steps = weight(f"{name}.weight_block_scale", e4m3, [width, blocks], width * blocks)
        scale = value(f"{name}.s", TensorProto.FLOAT, ["rows", 1])
        codes = value(f"{name}.codes", TensorProto.UINT8, ["rows", width // 2])
        inner = value(f"{name}.blocks", e4m3, ["rows", blocks])
        ours("PerTokenScale", [x], [scale], f"{name}/scale")
        ours("Quantize", [x, scale], [codes, inner], f"{name}/quantize")
        a = value(f"{name}.a", half, ["rows", width])
        ours("Dequantize", [codes, inner, scale], [a], f"{name}/activation", dtype=half)
        w = value(f"{name}.w", half, [width, width])
        ours("Dequantize", [packed, steps, "scale"], [w], f"{name}/Dequantize", dtype=half)
        turned = value(f"{name}.turned", half, [width, width])
        product = value(f"{name}.product", half, ["rows", width])
        end = value(f"t{i + 1}", half, ["rows", width])
        nodes.append(helper.make_node("Transpose", [w], [turned], perm=[1, 0], name=f"{name}/Transpose"))
        nodes.append(helper.make_node("MatMul", [a, turned], [product], name=f"{name}/MatMul"))
        nodes += [helper.make_node("Relu", [product], [f"{end}.0"], name=f"{name}/Relu0")]
        nodes += [
            helper.make_node("Relu", [f"{end}.{j}"], [f"{end}.{j + 1}"], name=f"{name}/Relu{j + 1}")
            for j in (0, 1)
        ]
        nodes += [helper.make_node("Relu", [f"{end}.2"], [end], name=f"{name}/end")]
    ends = [helper.make_tensor_value_info(n, half, ["rows", width]) for n in ("t0", f"t{layers}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights, value_info=values[:-1])
    with (folder / "model.data").open("wb") as file:
        file.truncate(offset)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("nvfp4", 1)])
    table = tuple(Layer(f"layers.{i}", "Linear", (width, width), "nvfp4") for i in range(layers))
    recipe = RECIPES["w4a4-dynamic-token"].model_dump(mode="json")
    made = Metadata(recipe, table, "spec", "", {"t0": [256, width]}, {})
    helper.set_model_props(model, made.as_props())
    onnx.save(model, folder / "model.onnx")


def main() -> None:
    """Read the command line, write the model in a process of its own, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = ("--layers", str(options.layers), "--width", str(options.width))
    if options.write:
        write(options.write, options.layers, options.width)
        return
    with tempfile.TemporaryDirectory() as name:
        measure([sys.executable, __file__, "--write", name, *size])
        command = [
            sys.executable,
            "-m",
            "nvfp4_trt.cli",
            "plan",
            Path(name) / "model.onnx",
            "--gpu",
            "b200",
            "--json",
        ]
        took = measure(command)
    engine = last_json(took.stdout)["gpus"][0]["engines"][0]
    found = {
        "parameters": options.layers * options.width**2,
        "kernels": engine["kernels"],
        "engine_bytes": engine["engine_bytes"],
        "wall_s": round(took.wall_s, 2),
        "peak_mb": round(took.peak_bytes / 1e6),
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{found['parameters']:,} parameters, {found['kernels']} kernels: ", end="")
        print(f"{found['wall_s']} s (goal: {SECONDS}), {found['peak_mb']} MB (goal: {MEGABYTES})")
    sys.exit(found["wall_s"] > SECONDS or found["peak_mb"] > MEGABYTES)


if __name__ == "__main__":
    main()
