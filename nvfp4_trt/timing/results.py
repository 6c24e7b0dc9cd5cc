"""What `bench` measured: one row an engine and shape, written as JSON and read back."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic's namespace)
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import BenchInvalidError, FileMissingError
from nvfp4_trt.timing.statistics import Summary  # noqa: TC001 (pydantic needs it at run time)

Schema = Literal["nvfp4-trt/bench/1"]
SCHEMA: Schema = "nvfp4-trt/bench/1"


class BenchRow(BaseModel):
    """One engine at one shape."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """The engine's file."""
    precision: str
    """`nvfp4`, or that of the engine that it is held against, such as `bf16`."""
    shape: dict[str, tuple[int, ...]]
    """Input → its shape."""
    median_ms: float
    """Of one run: as a CUDA graph where the engine can be captured, else launched one by one."""
    modelled_ms: float | None = None
    """By the cost model, on the file's `modelled_on`; null at other shapes than those the record was costed at."""
    batch: int = Field(ge=1)
    """Rows of one run: the extent that leads the first input."""
    rows_per_second: float
    """`batch` over `median_ms`."""
    plain: Summary
    """Launched one by one."""
    graph: Summary | None = None
    """As a CUDA graph; null where it was not tried, or refused."""
    graph_refused: str = ""
    """Why the engine cannot be captured; empty where it can."""
    peak_bytes: int
    """Device memory taken at most, engine and buffers, against before it was loaded; others' on the GPU counts."""
    engine_bytes: int


class Bench(BaseModel):
    """Measurements of one session on one GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    schema_name: Schema = Field(SCHEMA, alias="schema")
    gpu: str
    """Its name in the table of GPUs, such as `rtx5090`; the driver's where it is not in the table."""
    device: str
    """As its driver names it."""
    architecture: str
    driver: str
    backend: str
    version: str
    """The backend's."""
    modelled_on: str = ""
    """The GPU of the table that times are modelled on; empty where none is."""
    results: tuple[BenchRow, ...] = Field(min_length=1)

    @property
    def speedup(self) -> float | None:
        """How many times longer the last row takes than the first; None where there is one row."""
        first, last = self.results[0].median_ms, self.results[-1].median_ms
        return last / first if len(self.results) > 1 and first else None

    def as_dict(self) -> dict[str, object]:
        """Return what `bench --json` prints and `save` writes."""
        return self.model_dump(mode="json", by_alias=True)

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
        """
        with output_file(path) as scratch:
            scratch.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def load_bench(path: Path) -> Bench:
    """Read what `Bench.save` wrote, or what `bench --json` printed.

    Raises:
        FileMissingError: there is no such file.
        BenchInvalidError: it holds something else, or another version of it.
    """
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist", "measure: nvfp4-trt bench ENGINE -o FILE.json")
    hint = "measure again: nvfp4-trt bench ENGINE -o FILE.json"
    try:
        return Bench.model_validate_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise BenchInvalidError(f"{path} holds no measurements of schema {SCHEMA}", hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BenchInvalidError(
            f"{path} holds no measurements of schema {SCHEMA}: {where}: {first['msg']}", hint
        ) from error
