"""How close an engine's weights are to the fewest bytes that FP4 allows.

Reads the record that `nvfp4-trt build engine` writes beside an engine (`model.engine.json`), or what its
`--json` prints: `weight_bytes` is what the engine holds for its FP4 weights, codes and block scales with
their padding; `floor_bytes` is 0.5625 bytes for each of their parameters, the fewest that NVFP4 allows.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

KEYS = ("weight_bytes", "floor_bytes")


def find(record: Any, key: str) -> int | None:
    """Return the first number under `key`, at any depth of a JSON value."""
    if isinstance(record, dict):
        if isinstance(record.get(key), int):
            return int(record[key])
        record = list(record.values())
    if isinstance(record, list):
        return next((found for part in record if (found := find(part, key)) is not None), None)
    return None


def read(path: Path) -> dict[str, Any]:
    """Return one record's bytes and their ratio.

    Raises:
        SystemExit: the file is missing, is not JSON, or lacks one of the two figures.
    """
    try:
        record = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    found = {key: find(record, key) for key in KEYS}
    missing = [key for key, value in found.items() if not value]
    if missing:
        sys.exit(f"{path}: no {' and no '.join(missing)}: is this the record of an engine?")
    return {"path": str(path), **found, "ratio": (found["weight_bytes"] or 0) / (found["floor_bytes"] or 1)}


def main() -> None:
    """Read the command line and the records, print, and fail if a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="+", type=Path, help="model.engine.json files, or - for stdin")
    parser.add_argument("--at-most", type=float, help="exit with 1 if a ratio is above this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    rows = [read(path) for path in options.records]
    if options.json:
        print(json.dumps(rows))
    else:
        table = Table("engine", "weights MB", "floor MB", "ratio", title="engine weight bytes")
        for row in rows:
            sizes = (f"{row[key] / 1e6:.2f}" for key in KEYS)
            table.add_row(row["path"], *sizes, f"{row['ratio']:.3f}")
        Console(width=max(Console().width, 100)).print(table)
    if options.at_most is not None and any(row["ratio"] > options.at_most for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
