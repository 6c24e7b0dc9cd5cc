"""Layers kept in higher precision: folk rules against what `sensitivity --budget` finds, on the sentence encoder.

    python -m benchmarks.mixed_precision [--exact] [--engines]

For each folk rule, the budget is the SQNR that the rule itself comes to on the calibration sentences. Prints how
many layers each keeps, and the SQNR on those and on other sentences; with `--engines` what the engine's record
says: FP4 and FP8 GEMMs, kernels and bytes of a run. Layers are ranked by the estimate of their damage; with
`--exact` by its measurement, and the first lines compare the two.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from scipy.stats import spearmanr

import nvfp4_trt
from nvfp4_trt.loading import load_model
from nvfp4_trt.mixing import parse_budget
from nvfp4_trt.mixing.estimate import estimated
from nvfp4_trt.mixing.exact import measured
from nvfp4_trt.mixing.reference import Reference
from nvfp4_trt.mixing.search import fewest_kept
from nvfp4_trt.mixing.switchable import Switchable
from nvfp4_trt.recipe import RECIPES
from samples.minilm import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

RECIPE = RECIPES["w4a4-dynamic-token"]
FOLK = {
    "first and last linear": ("encoder.layer.0.attention.self.query", "pooler.dense"),
    "first and last block": ("encoder.layer.0.*", "encoder.layer.5.*"),
    "first and last block, pooler": ("encoder.layer.0.*", "encoder.layer.5.*", "pooler.dense"),
}
DIMS = ("batch=8", "sequence=128")


class Encoder:
    """The encoder in every mixture, and what each comes to."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.model = Switchable(module, RECIPE, fp8=True)
        self.seen, self.others = (Reference(module, list(each())) for each in (inputs.calibration, inputs.test))

    def rank(self, *, exact: bool) -> list[str]:
        """Return the layers by their damage, and print how near the estimate is to the measurement."""
        found = []
        for method in (measured, estimated) if exact else (estimated,):
            start = time.process_time()
            found.append(method(self.model, self.seen, lambda _done, _total: None))
            print(f"{method.__name__}: {time.process_time() - start:.1f} s of a core", flush=True)
        if not exact:
            return sorted(found[0], key=found[0].__getitem__)
        both = [[each[name] for name in self.model.names] for each in found]
        worst = max(abs(a - b) for a, b in zip(*both, strict=True))
        rank = spearmanr(*both).statistic
        print(f"{len(both[0])} layers, Spearman's correlation {rank:.3f}, largest difference {worst:.1f} dB\n")
        return sorted(found[0], key=found[0].__getitem__)

    def sqnr(self, kept: Sequence[str], keep: str, reference: Reference) -> float:
        """Return the output's SQNR in dB with some layers kept in `fp8` or `model`, the others in NVFP4."""
        forms = self.model.all_in("nvfp4") | dict.fromkeys(kept, keep)
        return reference.sqnr_db(self.model.arrange(forms))

    def row(self, title: str, kept: Sequence[str], keep: str, *, engines: bool) -> float:
        """Print a line, and return the SQNR on the calibration sentences."""
        seen = self.sqnr(kept, keep, self.seen)
        line = f"{title:44} {keep:6} {len(kept):4} {seen:8.2f} {self.sqnr(kept, keep, self.others):8.2f}"
        print(line + (self.engine(kept, keep) if engines else ""), flush=True)
        return seen

    def engine(self, kept: Sequence[str], keep: str) -> str:
        """Return what an engine is by its record; a GEMM that is not as asked is an error."""
        recipe = RECIPE.model_copy(update={"fp8" if keep == "fp8" else "exclude": tuple(kept)})
        with tempfile.TemporaryDirectory() as folder:
            onnx, engine = Path(folder) / "model.onnx", Path(folder) / "model.engine"
            nvfp4_trt.export(
                self.module,
                onnx,
                recipe=recipe,
                inputs=inputs.calibration(),
                dynamic=("batch,sequence",),
                dtype="float16",
            )
            built = nvfp4_trt.build(onnx, engine, targets=("sm_120",), dims=DIMS, optimize="off")
        fp4, fp8 = (built.audit.counts(precision)[1] for precision in ("nvfp4", "fp8"))
        return f" {fp4:4} {fp8:4} {built.audit.kernels:8} {built.record.cost['bytes'] / 1e6:8.1f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--engines", action="store_true")
    options = parser.parse_args()
    engines = options.engines
    encoder = Encoder(load_model(inputs.model_folder()).module)
    order = encoder.rank(exact=options.exact)
    columns = f"{'':44} {'in':6} {'kept':>4} {'seen dB':>8} {'others':>8}"
    print(columns + (f" {'FP4':>4} {'FP8':>4} {'kernels':>8} {'MB moved':>8}" if engines else ""))
    encoder.row("none", (), "model", engines=engines)
    for keep in ("fp8", "model"):
        for title, patterns in FOLK.items():
            folk = [name for name in encoder.model.names if any(fnmatchcase(name, each) for each in patterns)]
            budget = parse_budget(f"sqnr={encoder.row(title, folk, keep, engines=engines):.4f}")
            found = fewest_kept(order[:-1], budget, lambda kept, keep=keep: encoder.sqnr(kept, keep, encoder.seen))
            text = f"  found for {budget.text} ({found.tried} mixtures)"
            encoder.row(text, found.names, keep, engines=engines)


if __name__ == "__main__":
    main()
