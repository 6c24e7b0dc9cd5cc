"""What calibration comes to: a value that can be saved, and given to any later quantization of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import CalibrationInvalidError, CalibrationMismatchError, FileMissingError
from nvfp4_trt.loading import SourceKind  # noqa: TC001 (pydantic reads it)
from nvfp4_trt.recipe import ActivationScaling, ObserverName, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = "nvfp4.calibration"
_SUFFIX = ".input_amax"
_HINT = "write it again with `nvfp4-trt calibrate`"

_Magnitude = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerCalibration(_Frozen):
    """What was found for the activation of one layer."""

    name: str
    amax: _Magnitude
    """What the static scale is for: the per-tensor scale is `amax / 2688`."""
    largest: _Magnitude
    """The largest magnitude that was seen."""
    median: _Magnitude
    """Of the largest magnitudes of blocks of 16, zero blocks left out."""
    blocks: _Count
    """Blocks of 16 that were seen, zero blocks left out."""
    saturated: _Count
    """Of these, how many lie above `amax`."""
    subnormal: _Count
    """Of these, how many are so far below `amax` that their e4m3 scale loses bits."""


class Calibration(_Frozen):
    """Static activation scales of a model, and where they come from. It does not change once made."""

    format: Literal["nvfp4-trt calibration"] = "nvfp4-trt calibration"
    version: Literal[1] = 1
    source_kind: SourceKind
    """What the model was loaded from; hashes of different kinds are not compared."""
    source_sha256: str
    recipe: Recipe
    layers: tuple[LayerCalibration, ...]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [layer.name for layer in self.layers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PydanticCustomError("twice", "the layer {name} is there twice", {"name": twice})
        if self.recipe.activations.scaling is not ActivationScaling.STATIC:
            raise PydanticCustomError("scaling", "its recipe has no static scaling")
        return self

    def save(self, path: str | Path) -> None:
        """Write it as JSON, or as safetensors where the path ends so; the same bytes for the same value.

        A safetensors file holds fp32 `[]` tensors named `LAYER.input_amax`, and the JSON in its metadata.
        """
        target = Path(path)
        with output_file(target) as scratch:
            if target.suffix == ".safetensors":
                tensors = {layer.name + _SUFFIX: torch.tensor(layer.amax) for layer in self.layers}
                save_file(tensors, scratch, {_KEY: self.model_dump_json()})
            else:
                scratch.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            FileMissingError: there is no such file.
            CalibrationInvalidError: it is no calibration, of another version, or holds what cannot be.
        """
        file = Path(path)
        if not file.is_file():
            raise FileMissingError(f"the calibration {file} does not exist", "check the path")
        try:
            text, tensors = _read(file)
            made = cls._from_file(text, tensors)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in _named(first["loc"], text))
            raise CalibrationInvalidError(
                f"{file}: {where}: {first['msg']}".replace(": : ", ": "), _HINT
            ) from error
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CalibrationInvalidError(f"{file} is not a calibration: {reason}", _HINT) from error
        return made

    @classmethod
    def _from_file(cls, text: str, tensors: dict[str, float] | None) -> Calibration:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != cls.model_fields["format"].default:
            raise ValueError("it does not say that it is one")
        version = cls.model_fields["version"].default
        if data.get("version") != version:
            raise ValueError(f"it is of version {data.get('version')}, and this is {version}")
        made = cls.model_validate(data)
        if tensors is not None and tensors != {each.name + _SUFFIX: each.amax for each in made.layers}:
            raise ValueError("its tensors are not those that its metadata says")
        return made

    def amaxes(self, names: Sequence[str]) -> dict[str, float]:
        """Return the largest magnitude of each of the layers that a quantization asks for.

        Raises:
            CalibrationMismatchError: it lacks a layer, or has one more.
        """
        found = {layer.name: layer.amax for layer in self.layers}
        hint = "calibrate with the recipe, --only and --exclude that the layers are quantized with"
        for name in names:
            if name not in found:
                raise CalibrationMismatchError(f"the calibration lacks the layer {name}", hint)
        for name in found:
            if name not in names:
                raise CalibrationMismatchError(
                    f"the calibration has the layer {name}, which is not quantized", hint
                )
        return found

    def check_belongs(self, kind: SourceKind, sha256: str) -> None:
        """Refuse it for another model, where that can be told.

        Args:
            kind: what the model was loaded from.
            sha256: the hash of that.

        Raises:
            CalibrationMismatchError: the model is another.
        """
        if kind is self.source_kind and sha256 != self.source_sha256:
            raise CalibrationMismatchError(
                f"the calibration is of another model: {self.source_sha256[:12]}…, and this is {sha256[:12]}…",
                "calibrate this model, or give the one that was calibrated",
            )

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuse it for a recipe that scales activations otherwise.

        Raises:
            CalibrationMismatchError: the recipe's `activations` differ; or its `fp8`, where that matters.
        """
        mine, theirs = self.recipe.activations, recipe.activations
        for key in type(mine).model_fields:
            if getattr(mine, key) != getattr(theirs, key):
                raise CalibrationMismatchError(
                    f"the calibration is for activations.{key} {getattr(mine, key)}, "
                    f"and the recipe {recipe.name} says {getattr(theirs, key)}",
                    "leave out --recipe: the calibration has its own; or calibrate with this one",
                )
        if mine.observer is not ObserverName.MAX and self.recipe.fp8 != recipe.fp8:
            raise CalibrationMismatchError(
                f"the calibration is for the FP8 layers {list(self.recipe.fp8)}, and not {list(recipe.fp8)}: "
                f"the observer {mine.observer} is for NVFP4 layers alone",
                "calibrate with the same --fp8",
            )


def _read(file: Path) -> tuple[str, dict[str, float] | None]:
    """Return the JSON of either form of file, and the tensors of a safetensors file."""
    with file.open("rb") as opened:
        start = opened.read(9)
    if start[8:9] != b"{" or start[:1] == b"{":
        return file.read_text(encoding="utf-8"), None
    with safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {})[_KEY]
        return text, {name: float(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118


def _named(location: tuple[int | str, ...], text: str) -> list[int | str]:
    """Return where an error lies, with the layer's name instead of its number."""
    parts = list(location)
    if len(parts) > 1 and parts[0] == "layers" and isinstance(parts[1], int):
        layer = json.loads(text)["layers"][parts[1]]
        parts[1] = str(layer.get("name", parts[1])) if isinstance(layer, dict) else parts[1]
    return parts
