"""Recipes: which layers become FP4, and how their weights and activations are scaled.

A recipe is data: five built-in names, or a YAML file that starts from one (`base: NAME`) and says what
differs. It is carried whole in the metadata of every exported file.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from nvfp4_trt.errors import FileMissingError, RecipeInvalidError
from nvfp4_trt.patterns import matching

if TYPE_CHECKING:
    from collections.abc import Sequence


class ActivationScaling(StrEnum):
    """Where an activation's per-tensor scale comes from."""

    DYNAMIC = "dynamic"
    """Computed at run time over the whole tensor: one fp32 scalar."""
    DYNAMIC_TOKEN = "dynamic-token"  # noqa: S105 (a token of text)
    """Computed at run time for each row: fp32 `[..., 1]`."""
    STATIC = "static"
    """A constant, calibrated on example inputs."""
    SINGLE_LEVEL = "single-level"
    """None: the block scale alone spans the range."""
    NONE = "none"
    """Activations are not quantized (weight-only)."""


class ObserverName(StrEnum):
    """How a static scale is found in what calibration saw (see `nvfp4_trt.calibration.observers`)."""

    MAX = "max"
    """The largest magnitude."""
    PERCENTILE = "percentile"
    """A percentile of the magnitudes above zero."""
    MSE = "mse"
    """What errs least, squared, when the activation is quantized."""
    ENTROPY = "entropy"
    """What changes the distribution of block maxima least."""
    HEADROOM = "headroom"
    """A multiple of a low percentile of block maxima: room above what was seen."""


class RuleName(StrEnum):
    """Which peer's rounding of block scales to follow (see `nvfp4_trt.format.ScaleRule`)."""

    SPEC = "spec"
    TORCHAO = "torchao"
    MODELOPT = "modelopt"
    COMPRESSED_TENSORS = "compressed-tensors"


class WeightMethod(StrEnum):
    """How a weight's scales and codes are chosen (see docs/weight-methods.md)."""

    MAX = "max"
    """Each block's largest magnitude maps to 6, and values go to the nearest code."""
    MSE = "mse"
    """The block scales, and the per-tensor scale, with the least squared error."""
    FOUR_OVER_SIX = "four-over-six"
    """The largest magnitude of a block maps to 6 or to 4, whichever errs less."""
    GPTQ = "gptq"
    """Codes that make good what the codes before them did to the layer's output; scales as of `max`."""
    GPTQ_MSE = "gptq+mse"
    GPTQ_FOUR_OVER_SIX = "gptq+four-over-six"

    @property
    def needs_inputs(self) -> bool:
        """Whether the method looks at what enters the layer."""
        return self.value.startswith("gptq")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(_Strict):
    """How weights are quantized: always two-level.

    The rule concerns weights alone: a peer's way of rounding them travels as bytes, while activations are
    quantized at run time by TensorRT, which knows one way. So do the methods.
    """

    rule: RuleName = RuleName.SPEC
    low_rank: Annotated[int, Field(ge=0, le=256)] = 0
    """Rank of the branch beside each FP4 GEMM (see `nvfp4_trt.quantization.transforms.low_rank`); 0: none."""
    method: WeightMethod = WeightMethod.MAX
    methods: tuple[tuple[str, WeightMethod], ...] = ()
    """By pattern, for some layers: of several patterns that match a layer the last one counts. A mapping is taken
    too; pairs keep their order wherever a recipe is written with its keys sorted.
    """

    @field_validator("methods", mode="before")
    @classmethod
    def _as_pairs(cls, given: object) -> object:
        return tuple(given.items()) if isinstance(given, dict) else given

    @property
    def needs_inputs(self) -> bool:
        """Whether a method looks at what enters a layer."""
        return any(method.needs_inputs for method in (self.method, *(each for _, each in self.methods)))

    def methods_of(self, names: Sequence[str]) -> dict[str, WeightMethod]:
        """Return the method of each of these layers.

        Raises:
            PatternMatchesNothingError: a pattern of `methods` matches none of them.
        """
        found = dict.fromkeys(names, self.method)
        for pattern, method in self.methods:
            found |= dict.fromkeys(matching(names, [pattern], option="weights.methods"), method)
        return found


class SmoothMethod(StrEnum):
    """Where the factors of smoothing come from (see `nvfp4_trt.quantization.transforms.smoothing`)."""

    SMOOTHQUANT = "smoothquant"
    AWQ = "awq"


class Smooth(_Strict):
    """Input channels are divided by factors, and the weights' columns multiplied by them."""

    method: SmoothMethod = SmoothMethod.SMOOTHQUANT
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The exponent of the inputs' magnitudes."""


MOST_RATIO = 28672.0
"""Of a largest magnitude to a block's: beyond it, 448 / 2^-6, the block's e4m3 scale is subnormal."""

_PARAMETERS: dict[str, dict[str, float]] = {
    ObserverName.PERCENTILE: {"percentile": 99.999},
    ObserverName.HEADROOM: {"percentile": 99.99, "anchor": 1.0, "ratio": 16384.0},
}
_OBSERVING = ("observer", "percentile", "anchor", "ratio")

_Percent = Annotated[float, Field(gt=0, le=100)]


class Activations(_Strict):
    """How activations are quantized at the door of each FP4 layer.

    The observer and its parameters belong to static scaling, which has the observer `max` where none is named.
    """

    scaling: ActivationScaling = ActivationScaling.DYNAMIC_TOKEN
    observer: ObserverName | None = None
    percentile: _Percent | None = None
    """`percentile`: of magnitudes. `headroom`: of block maxima; what lies above may saturate."""
    anchor: _Percent | None = None
    """`headroom`: the low percentile of block maxima."""
    ratio: Annotated[float, Field(ge=1, le=MOST_RATIO)] | None = None
    """`headroom`: of the largest magnitude to the anchor."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Write out the observer of static scaling, and its parameters."""
        if not isinstance(given, dict) or given.get("scaling") != ActivationScaling.STATIC:
            return given
        observer = given.get("observer") or ObserverName.MAX
        defaults = _PARAMETERS.get(observer, {}) if isinstance(observer, str) else {}
        said = {key: value for key, value in given.items() if value is not None}
        return {**defaults, **said, "observer": observer}

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        said = [key for key in _OBSERVING if getattr(self, key) is not None]
        if said and self.scaling is not ActivationScaling.STATIC:
            reason = f"{said[0]} is for `scaling: static`, and the scaling is {self.scaling}"
            raise PydanticCustomError("observer_scaling", "{reason}", {"reason": reason})
        for key in said[1:]:
            if key not in _PARAMETERS.get(str(self.observer), {}):
                reason = f"{key} is no parameter of the observer {self.observer}"
                raise PydanticCustomError("observer_parameter", "{reason}", {"reason": reason})
        return self


class Recipe(_Strict):
    """A recipe.

    `only` selects layers, `exclude` takes some away, and `fp8` makes some of the rest FP8 instead of NVFP4; all
    three are shell globs.
    """

    name: str = "custom"
    weights: Weights = Weights()
    activations: Activations = Activations()
    smooth: Smooth | None = None
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    fp8: tuple[str, ...] = ()

    @property
    def transforms(self) -> tuple[str, ...]:
        """What the recipe does to a model before it quantizes it, for messages."""
        smooth = () if self.smooth is None else (f"`smooth: {self.smooth.method}`",)
        branch = (f"`weights.low_rank: {self.weights.low_rank}`",) if self.weights.low_rank else ()
        return (*smooth, *branch)

    def with_patterns(self, only: Sequence[str], exclude: Sequence[str], fp8: Sequence[str] = ()) -> Recipe:
        """Return the recipe with `only` instead of its own, where there is any, and the others beside its own."""
        changed = {
            "only": tuple(only) or self.only,
            "exclude": (*self.exclude, *exclude),
            "fp8": (*self.fp8, *fp8),
        }
        return self.model_copy(update=changed)

    def with_method(self, method: WeightMethod) -> Recipe:
        """Return the recipe with one weight method for all layers."""
        weights = self.weights.model_copy(update={"method": method, "methods": ()})
        return self.model_copy(update={"weights": weights})


def _builtin(name: str, scaling: ActivationScaling) -> Recipe:
    return Recipe(name=name, activations=Activations(scaling=scaling))


DEFAULT_RECIPE = "w4a4-dynamic-token"
RECIPES: dict[str, Recipe] = {
    "w4a4-dynamic": _builtin("w4a4-dynamic", ActivationScaling.DYNAMIC),
    "w4a4-dynamic-token": _builtin("w4a4-dynamic-token", ActivationScaling.DYNAMIC_TOKEN),
    "w4a4-static": _builtin("w4a4-static", ActivationScaling.STATIC),
    "w4a4-single-level": _builtin("w4a4-single-level", ActivationScaling.SINGLE_LEVEL),
    "w4a16": _builtin("w4a16", ActivationScaling.NONE),
}


def load_recipe(source: str | Path | Recipe) -> Recipe:
    """Return a recipe by built-in name, from a YAML file, or as it is.

    Args:
        source: a `Recipe`; one of `RECIPES`; or a path ending in `.yaml` or `.yml`.

    Raises:
        RecipeInvalidError: an unknown name, an unknown key, or a value out of its set.
        FileMissingError: a YAML path that does not exist.
    """
    if isinstance(source, Recipe):
        return source
    if str(source) in RECIPES:
        return RECIPES[str(source)]
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        raise RecipeInvalidError(
            f"{str(source)!r} is not a built-in recipe",
            f"choose one of {', '.join(RECIPES)}, or a .yaml file",
        )
    if not path.is_file():
        raise FileMissingError(f"the recipe {path} does not exist", "check the path")
    return _from_mapping(_read_yaml(path), path)


def refuse_transforms(recipe: Recipe, what: str) -> None:
    """Raise for a recipe with transforms where there is no way to apply them.

    Raises:
        RecipeInvalidError: always for such a recipe; names its first transform.
    """
    if recipe.transforms:
        raise RecipeInvalidError(
            f"the recipe {recipe.name} has {recipe.transforms[0]}, and {what}",
            "take it out of the recipe, or give the recipe and --inputs to `export` or `quantize`",
        )


def as_mapping(recipe: Recipe) -> dict[str, Any]:
    """Return what a YAML file of the recipe holds: `base`, and what differs from it; the name is the file's."""
    same = (name for name, base in RECIPES.items() if base.activations == recipe.activations)
    name = next(same, DEFAULT_RECIPE)
    differing = _differing(RECIPES[name].model_dump(mode="json"), recipe.model_dump(mode="json"))
    differing.pop("name", None)
    return {"base": name, **differing}


def _differing(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return what `_merge` has to put over `base` to get `over`."""
    return {
        key: _differing(base[key], value) if isinstance(value, dict) and isinstance(base[key], dict) else value
        for key, value in over.items()
        if base[key] != value
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeInvalidError(
            f"{path} is not YAML: {' '.join(str(error).split())}", "see docs/recipes.md for the keys"
        ) from error
    if not isinstance(data, dict):
        raise RecipeInvalidError(f"{path} holds no mapping", "start it with `base: w4a4-dynamic-token`")
    return data


def _from_mapping(data: dict[str, Any], path: Path) -> Recipe:
    base = data.pop("base", DEFAULT_RECIPE)
    if not isinstance(base, str) or base not in RECIPES:
        raise RecipeInvalidError(
            f"{path}: base {base!r} is not a built-in recipe", f"choose one of {', '.join(RECIPES)}"
        )
    start = RECIPES[base].model_dump(mode="json")
    for key in _OBSERVING:  # an observer goes with the scaling it belongs to, which the file may change
        start["activations"].pop(key)
    merged = _merge(start, {"name": path.stem, **data})
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise RecipeInvalidError(f"{path}: {where}: {reason}", _known_keys()) from error


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(base[key], over[key])
        for key in base.keys() & over.keys()
        if isinstance(base[key], dict) and isinstance(over[key], dict)
    }
    return {**base, **over, **both}


def _known_keys() -> str:
    keys = ["base", *(k for k in Recipe.model_fields if k not in {"weights", "activations", "smooth"})]
    keys += [f"weights.{k}" for k in Weights.model_fields]
    keys += [f"activations.{k}" for k in Activations.model_fields]
    keys += [f"smooth.{k}" for k in Smooth.model_fields]
    return f"known keys: {', '.join(keys)}"
