"""Time, peak memory and size of `nvfp4-trt report` for a model of 500 layers, alone and with all that it can show.

The model is that of `deep_model.py`. Exits with 1 if a goal is missed: 10 s for the file and its engine, and 5 MB
for the page that shows errors and activations too, for which the model is run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from children import last_json, measure

SECONDS, MEGABYTES = 10, 5
HERE = Path(__file__).parent


def main() -> None:
    """Read the command line, write the model in a process of its own, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="files of `deep_model.py`, written before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        if options.folder is None:
            measure([sys.executable, HERE / "deep_model.py", folder])
        run = ["--reference", folder / "model.pt", "--model", "deep_model:factory", "--input", "x:float32:16x256"]
        found = {
            "file and engine": reported(folder, Path(name)),
            "with errors and activations": reported(folder, Path(name), *run),
        }
    if options.json:
        print(json.dumps(found))
    else:
        for what, figures in found.items():
            print(f"{what}: {', '.join(f'{value} {key}' for key, value in figures.items())}")
    first, full = found.values()
    sys.exit(first["wall_s"] > SECONDS or full["page_mb"] > MEGABYTES)


def reported(folder: Path, output: Path, *more: str | Path) -> dict[str, float]:
    """Return what a report of the model in a folder took."""
    page = output / "page.html"
    command = [sys.executable, "-m", "nvfp4_trt.cli", "report", folder / "model.onnx", "-o", page, *more, "--json"]
    took = measure(command, env={"PYTHONPATH": f"{HERE.parent}:{HERE}"})
    told = last_json(took.stdout)["report"]
    return {
        "layers": len(told["layers"]),
        "kernels": len(told["engine"]["kernels"]) if told["engine"] else 0,
        "wall_s": round(took.wall_s, 2),
        "cpu_s": round(took.cpu_s, 2),
        "peak_mb": round(took.peak_bytes / 1e6),
        "page_mb": round(page.stat().st_size / 1e6, 2),
    }


if __name__ == "__main__":
    main()
