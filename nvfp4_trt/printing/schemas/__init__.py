"""JSON schemas of what each command prints with `--json`, from types: `docs/schemas/` has them as files."""

from nvfp4_trt.printing.schemas.generate import schema_file, schema_of, write_schemas
from nvfp4_trt.printing.schemas.registry import RESULTS

__all__ = ["RESULTS", "schema_file", "schema_of", "write_schemas"]
