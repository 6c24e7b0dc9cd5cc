"""What `prove` did: each stage, what it says, and the files it left."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Schema = Literal["nvfp4-trt/prove/1"]
StageName = Literal["export", "build", "compare", "run", "bench", "report"]
NEED_A_GPU: tuple[StageName, ...] = ("run", "bench")


class ProofStage(BaseModel):
    """One stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: StageName
    done: bool
    """Whether it was run."""
    said: str
    """What came out of it, in a line; or why it was not run."""
    seconds: float
    files: tuple[str, ...]
    """What it left in the folder."""


class Proof(BaseModel):
    """All of it, as `summary.json` in the folder has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    schema_name: Schema = Field("nvfp4-trt/prove/1", alias="schema")
    model: str
    """What was proved."""
    recipe: str
    folder: str
    gpu: str
    """As its driver names it; empty without one."""
    backend: str
    version: str
    targets: tuple[str, ...]
    stages: tuple[ProofStage, ...]
    """In the order in which they ran; those that did not are there too."""

    @property
    def not_run(self) -> tuple[str, ...]:
        """Names of the stages that were not run."""
        return tuple(stage.name for stage in self.stages if not stage.done)

    def as_dict(self) -> dict[str, object]:
        """Return what `prove --json` prints."""
        return self.model_dump(mode="json", by_alias=True)
