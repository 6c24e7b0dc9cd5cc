"""Launches, bytes and modelled time of one transformer layer, in each variant that the search tries.

    python benchmarks/forms.py

Every figure is that of three layers less that of two, by TensorRT-RTX's layer record for sm_120, with batch 1 to
32 and sequence 1 to 512, and with batch 8 and sequence 128 alone. Times are modelled on an RTX 5090; nothing is
run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from kernel_counts import BATCH, DTYPES, LAYERS, SCALINGS, SEQUENCE, export

from nvfp4_trt.building import build_engine

SHAPES = {
    "dynamic": [f"{name}={':'.join(map(str, r))}" for name, r in (("batch", BATCH), ("sequence", SEQUENCE))],
    "fixed 8x128": ["batch=8", "sequence=128"],
}


GPU = "rtx5090"


class Figures(NamedTuple):
    """Of one layer."""

    launches: int
    megabytes: float
    microseconds: float
    """Modelled."""


def layer(kind: str, recipe: str, dtype: str, dims: list[str], folder: Path) -> dict[str, Figures]:
    """Return variant → figures of one layer: those of three less those of two."""
    totals = []
    for layers in (2, 3):
        portable = folder / "portable.onnx"
        export(kind, layers, recipe, DTYPES[dtype], portable)
        built = build_engine(
            portable,
            folder / "model.engine",
            backend="tensorrt_rtx",
            dims=dims,
            optimize="fast",
            gpu=GPU,
            cache=False,
        )
        failed = [each for each in built.record.candidates if each.error]
        if failed:
            raise SystemExit(f"{kind}, {recipe}, {failed[0].name}: {failed[0].error}")
        totals.append({c.name: Figures(c.kernels, c.bytes / 1e6, c.microseconds) for c in built.record.candidates})
    fewer, more = totals
    return {name: Figures(*(m - f for m, f in zip(more[name], fewer[name], strict=True))) for name in more}


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
                    figures = layer(kind, recipe, options.dtype, dims, Path(folder))
                    best = min(figures.values(), key=lambda each: each.microseconds)
                    found += [
                        {
                            "layer": kind,
                            "scaling": scaling,
                            "shape": shape,
                            "variant": name,
                            **each._asdict(),
                            "kept": each == best,
                        }
                        for name, each in figures.items()
                    ]
                    print(f"{kind}, {scaling}, {shape}: {figures}", file=sys.stderr)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| layer | scaling | shape | variant | launches | MB moved | µs modelled | kept |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found:
        cells = [row["layer"], row["scaling"], row["shape"], row["variant"], row["launches"]]
        numbers = [f"{row['megabytes']:.2f}", f"{row['microseconds']:.2f}", "yes" if row["kept"] else ""]
        print(f"| {' | '.join(map(str, [*cells, *numbers]))} |")


if __name__ == "__main__":
    main()
