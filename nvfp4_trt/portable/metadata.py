"""What a file says of itself: recipe, layers, versions, source; written and read back here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter

from nvfp4_trt.errors import NotOurOnnxError
from nvfp4_trt.layers import Layer  # noqa: TC001 (pydantic needs it at run time)
from nvfp4_trt.portable.functions import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "nvfp4."
_OPTIONAL = ("fixed", "looked_at")


@dataclass(frozen=True)
class Metadata:
    """The metadata of a portable file, all of it also in the lowered file made from it."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # an entry of a later version may change what others mean

    recipe: dict[str, Any]
    """The whole recipe, as `Recipe.model_validate` takes it."""
    layers: tuple[Layer, ...]
    """Every layer that was looked at."""
    scale_rule: str
    """The rule that weights were quantized by; activations follow `spec`."""
    source_sha256: str
    """Hash of the model file (or of the weights, for a module in memory)."""
    example_shapes: dict[str, list[int]]
    """Shapes of the example inputs by name: the optimum of an optimization profile."""
    versions: dict[str, str]
    """Versions of the packages that made the file."""
    fixed: dict[str, str] = field(default_factory=dict)
    """Layer that `--fix` rewrote → the rule that it was rewritten for."""
    looked_at: dict[str, str] = field(default_factory=dict)
    """Hashes of what was found on inputs (`scales`, those of activations) or looked at them (`inputs`); empty
    where the recipe looks at none, or it is not known. See `calibration.looked_at`."""

    def as_props(self) -> dict[str, str]:
        """Return the entries of the model's `metadata_props`."""
        fields: dict[str, Any] = {
            "operator_version": VERSION,
            "recipe": self.recipe,
            "layers": [asdict(layer) for layer in self.layers],
            "scale_rule": self.scale_rule,
            "source_sha256": self.source_sha256,
            "example_shapes": self.example_shapes,
            "versions": self.versions,
        }
        fields |= {key: value for key in _OPTIONAL if (value := getattr(self, key))}
        return {_PREFIX + key: json.dumps(value, sort_keys=True) for key, value in fields.items()}


def read_metadata(props: Mapping[str, str], *, file: str) -> Metadata:
    """Read a file's metadata back.

    Raises:
        NotOurOnnxError: the entries are missing, broken, or of a later operator version.
    """
    hint = "make the file with `nvfp4-trt export`"
    try:
        fields = {key.removeprefix(_PREFIX): json.loads(props[key]) for key in props if key.startswith(_PREFIX)}
        operators = fields.pop("operator_version")
        made = TypeAdapter(Metadata).validate_json(json.dumps(fields), strict=True)
    except (KeyError, TypeError, ValueError) as error:
        raise NotOurOnnxError(f"{file} was not exported by nvfp4-trt (it lacks its metadata)", hint) from error
    if operators != VERSION:
        raise NotOurOnnxError(f"{file} uses version {operators} of the nvfp4 operators; this is {VERSION}", hint)
    return made


def package_versions() -> dict[str, str]:
    """Return the versions that a file is stamped with."""
    found = {}
    for name in ("nvfp4-trt", "torch", "onnx", "onnx-ir", "onnxscript"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
