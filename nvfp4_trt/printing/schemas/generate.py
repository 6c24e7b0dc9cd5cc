"""From the types of results to JSON schemas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from nvfp4_trt.printing.schemas.registry import RESULTS
from nvfp4_trt.printing.schemas.results import Failure

if TYPE_CHECKING:
    from pathlib import Path

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(command: str) -> dict[str, Any]:
    """Return the schema of one command's object: its result, or how it failed.

    Args:
        command: as it is typed, such as `build engine`.
    """
    made = TypeAdapter(RESULTS[command] | Failure).json_schema(mode="serialization")
    return {"$schema": _DIALECT, "title": f"nvfp4-trt {command} --json", **made}


def schema_file(command: str) -> str:
    """Return the name of a command's file in `docs/schemas/`."""
    return f"{command.replace(' ', '-')}.json"


def write_schemas(folder: Path) -> None:
    """Write every command's schema, and remove files that are no command's."""
    files = {schema_file(command): schema_of(command) for command in RESULTS}
    folder.mkdir(exist_ok=True)
    for name, schema in files.items():
        (folder / name).write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for stale in {path.name for path in folder.glob("*.json")} - files.keys():
        (folder / stale).unlink()
