"""CPU time of `nvfp4-trt --help`, against an interpreter that does nothing, and proof of why it is small.

Exits with 1 if the command imports torch, onnx or transformers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from children import last_json, measure
from rich.console import Console
from rich.table import Table

HELP = [sys.executable, "-m", "nvfp4_trt.cli", "--help"]
NOTHING = [sys.executable, "-c", "pass"]
HEAVY = ("torch", "onnx", "onnxruntime", "transformers", "numpy")
FORBIDDEN = ("torch", "onnx", "transformers")
PROBE = f"""
import json, sys
from nvfp4_trt.cli import main
sys.argv = ["nvfp4-trt", "--help"]
try:
    main()
except SystemExit:
    pass
print(json.dumps({{"imported": [name for name in {HEAVY!r} if name in sys.modules]}}))
"""


def main() -> None:
    """Read the command line, measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    imported = last_json(measure([sys.executable, "-c", PROBE]).stdout)["imported"]
    turns = [(measure(HELP).cpu_s, measure(NOTHING).cpu_s) for _ in range(options.runs)]
    help_s, nothing_s = (statistics.median(column) for column in zip(*turns, strict=True))
    result = {
        "help_cpu_s": help_s,
        "python_cpu_s": nothing_s,
        "ratio": help_s / nothing_s,
        "imported": imported,
    }
    if options.json:
        print(json.dumps(result))
    else:
        table = Table("command", "CPU ms", title=f"start-up, medians of {options.runs} runs")
        table.add_row("nvfp4-trt --help", f"{help_s * 1e3:.0f}")
        table.add_row("python -c pass", f"{nothing_s * 1e3:.0f}")
        table.add_row("ratio", f"{help_s / nothing_s:.1f}")
        Console(width=max(Console().width, 100)).print(table)
    wrong = [name for name in FORBIDDEN if name in imported]
    if wrong:
        sys.exit(f"--help imports {', '.join(wrong)}")


if __name__ == "__main__":
    main()
