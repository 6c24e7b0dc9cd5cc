"""BERT-base through ModelOpt's ONNX path, built by this project's builder for sm_120.

    python benchmarks/modelopt_engine.py --peer-venv .venv-modelopt --shape 1x128 --shape 8x128 --shape dynamic

ModelOpt exports the fp32 model, packs its weights and converts the rest to fp16 itself; nothing is lowered or
changed afterwards. See `peers/modelopt_export.py` for what stands in for a GPU and for TensorRT meanwhile.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from built import BATCHES, SEQUENCES, Built, build_onnx
from children import measure
from export_vs_modelopt import PEERS, QUIET, peer_python
from models import make

DYNAMIC = "dynamic"
SHAPES = ("1x128", "8x128", DYNAMIC)


class ModelOptFiles:
    """ModelOpt's exports of one BERT, each made when it is first asked for.

    Args:
        folder: where the model and the exports go.
        python: the interpreter of ModelOpt's virtual environment.
        layers: 12 is BERT-base.
    """

    def __init__(self, folder: Path, python: Path, layers: int = 12) -> None:
        self.folder, self.python, self.layers = folder, python, layers
        self._engines: dict[tuple[str, str], Built] = {}

    def onnx(self, shape: str) -> Path:
        """Return the ONNX file of a shape, `BATCHxSEQUENCE` or `dynamic`."""
        path = self.folder / shape / "model.onnx"
        if not path.is_file():
            fixed = [] if shape == DYNAMIC else ["--fixed", *shape.split("x")]
            script = PEERS / "modelopt_export.py"
            measure([self.python, script, self._source(), "-o", path, "--convert", *fixed], env=QUIET)
        return path

    def engine(self, shape: str, form: str = "fixed") -> Built:
        """Build for a shape, `BATCHxSEQUENCE`.

        Args:
            shape: of the inputs.
            form: `fixed` for the file of that shape, `dynamic` for the file with dynamic dimensions and a profile
                of that one shape.
        """
        if (shape, form) not in self._engines:
            source = self.onnx(shape if form == "fixed" else DYNAMIC)
            batch, sequence = (int(extent) for extent in shape.split("x"))
            ranges = {"batch": (batch,) * 3, "sequence": (sequence,) * 3}
            self._engines[shape, form] = build_onnx(source, self.folder / f"{shape}-{form}", ranges)
        return self._engines[shape, form]

    def over_a_range(self) -> Built:
        """Build the file with dynamic dimensions for the whole range of shapes."""
        ranges = {"batch": BATCHES, "sequence": SEQUENCES}
        return build_onnx(self.onnx(DYNAMIC), self.folder / "range", ranges)

    def _source(self) -> Path:
        folder = self.folder / "bert"
        if not folder.exists():
            bert: Any = make("bert-base", self.layers, torch.float32).module
            bert.save_pretrained(folder)
        return folder


def main() -> None:
    """Print each shape's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-venv", type=Path, default=Path(".venv-modelopt"), help="is made if missing")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="may be repeated; default: all")
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelopt-engine-") as work:
        files = ModelOptFiles(Path(work), peer_python(options.peer_venv), options.layers)
        for shape in options.shape or SHAPES:
            built = files.over_a_range() if shape == DYNAMIC else files.engine(shape)
            print(json.dumps({"shape": shape, **built.figures}), flush=True)


if __name__ == "__main__":
    main()
