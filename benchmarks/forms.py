"""Kernel launches of one transformer layer, in each form of the lowered graph.

    python benchmarks/forms.py

Every figure is the launches of three layers less those of two, as TensorRT-RTX's layer record has them for
sm_120, with batch 1 to 32 and sequence 1 to 512, and with batch 8 and sequence 128 alone. Nothing is run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from kernel_counts import BATCH, DTYPES, LAYERS, SCALINGS, SEQUENCE, export

from nvfp4_trt.building import build_engine
from nvfp4_trt.passes import FORMS

SHAPES = {
    "dynamic": [f"{name}={':'.join(map(str, r))}" for name, r in (("batch", BATCH), ("sequence", SEQUENCE))],
    "fixed 8x128": ["batch=8", "sequence=128"],
}


def layer(kind: str, recipe: str, dtype: str, dims: list[str], folder: Path) -> dict[str, int]:
    """Return form → launches of one layer."""
    totals = []
    for layers in (2, 3):
        portable = folder / "portable.onnx"
        export(kind, layers, recipe, DTYPES[dtype], portable)
        built = build_engine(portable, folder / "model.engine", backend="tensorrt_rtx", dims=dims, optimize="fast")
        failed = [each for each in built.record.candidates if each.error]
        if failed:
            raise SystemExit(f"{kind}, {recipe}, {failed[0].form}: {failed[0].error}")
        totals.append({each.form: each.kernels for each in built.record.candidates})
    fewer, more = totals
    return {form: more[form] - fewer[form] for form in FORMS}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in LAYERS:
            for scaling, recipe in SCALINGS.items():
                for shape, dims in SHAPES.items():
                    counts = layer(kind, recipe, options.dtype, dims, Path(folder))
                    found.append({"layer": kind, "scaling": scaling, "shape": shape, **counts})
                    print(f"{kind}, {scaling}, {shape}: {counts}", file=sys.stderr)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| layer | scaling | shape | operator | blocks | kept, over operator |")
    print("|---|---|---|---|---|---|")
    for row in found:
        counts = [row[form] for form in FORMS]
        cells = [row["layer"], row["scaling"], row["shape"], *counts, f"{min(counts) / counts[0]:.2f}"]
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
