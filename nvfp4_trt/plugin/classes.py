"""The two plugins as TensorRT's classes, for Python: thin, since all they decide is decided elsewhere.

Built, and their build-time half exercised, with TensorRT-RTX's bindings, which have the same base classes; not
run inside an engine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import KernelLaunchError
from nvfp4_trt.kernels.driver import device_limits
from nvfp4_trt.plugin.expressions import (
    Expressions,
    declared_fields,
    fields_from,
    our_dtype,
    serialized_fields,
    their_dtype,
)
from nvfp4_trt.plugin.fields import GEMM, NAMESPACE, QUANTIZE, VERSION, GemmFields, field_values
from nvfp4_trt.plugin.formats import output_dtypes, supported
from nvfp4_trt.plugin.plans import workspace_bytes
from nvfp4_trt.plugin.running import Running, current_device
from nvfp4_trt.plugin.shapes import gemm_shapes, quantize_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvfp4_trt.kernels import Pack
    from nvfp4_trt.plugin.fields import Fields


@dataclass(frozen=True)
class PluginClasses:
    """What `plugin_classes` makes."""

    plugin: type[Any]
    """The plugin: `plugin(name, fields)`."""
    creator: type[Any]
    """Its creator: `creator(name)`."""


def plugin_classes(trt: Any, pack: Pack) -> PluginClasses:
    """Return the plugin's class and its creator's, derived from the base classes of a TensorRT module.

    Args:
        trt: the module `tensorrt` (`tensorrt_rtx` has the same base classes, and builds no plugins).
        pack: where the kernels come from.
    """
    plugin = _plugin_class(trt, pack)
    return PluginClasses(plugin, _creator_class(trt, plugin))


def register(trt: Any, pack: Pack) -> list[Any]:
    """Put both plugins into TensorRT's registry, for a parser to build with or a runtime to load engines with.

    Returns:
        The creators, new ones or those that were there; TensorRT keeps no reference to a Python creator, so the
        caller does, as long as plugins are made.
    """
    registry, creator = trt.get_plugin_registry(), plugin_classes(trt, pack).creator
    made = []
    for name in (QUANTIZE, GEMM):
        found = registry.get_creator(name, VERSION, NAMESPACE)
        if found is None:
            found = creator(name)
            registry.register_creator(found, NAMESPACE)
        made.append(found)
    return made


def _creator_class(trt: Any, plugin: type[Any]) -> type[Any]:
    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = name, VERSION, NAMESPACE
            self._declared = declared_fields(trt, name)
            self.field_names = self._declared.collection

        def create_plugin(self, name: str, field_collection: Any, phase: Any) -> Any:  # noqa: ARG002
            return plugin(self.name, fields_from(self.name, field_collection))

    return Creator


def _plugin_class(trt: Any, pack: Pack) -> type[Any]:  # noqa: C901 (the methods that TensorRT calls)
    told = " ".join(sorted(each.sha256 for each in pack.manifest.kernels))
    digest = hashlib.sha256(told.encode()).hexdigest()
    bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)

    class Plugin(*bases):  # type: ignore[misc]
        def __init__(self, name: str, fields: Fields) -> None:
            for base in bases:
                base.__init__(self)
            self.plugin_name, self.plugin_version, self.plugin_namespace = name, VERSION, NAMESPACE
            self.num_outputs = len(fields.outputs)
            self.metadata_string = json.dumps({"plugin": name, **field_values(fields)})
            # Timings depend on the kernels: those of another pack must not be taken from a cache.
            self.timing_cache_id = f"{self.metadata_string} {digest}"
            self.fields = fields
            self.running: Running | None = None
            self._serialized = serialized_fields(trt, fields)

        def get_capability_interface(self, type: Any) -> Any:  # noqa: A002, ARG002 (TensorRT's name)
            return self

        def clone(self) -> Any:
            return Plugin(self.plugin_name, self.fields)

        def get_fields_to_serialize(self) -> Any:
            return self._serialized.collection

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            found = output_dtypes(self.fields, [our_dtype(each) for each in input_types])
            return [their_dtype(trt, each) for each in found]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Any, expr_builder: Any) -> list[Any]:  # noqa: ARG002
            dims = [[each[i] for i in range(len(each))] for each in inputs]
            if isinstance(self.fields, GemmFields):
                shapes = gemm_shapes(dims[0], dims[3])
            else:
                shapes = quantize_shapes(Expressions(trt, expr_builder), self.fields, dims[0])
            return [trt.DimsExprs(shape) for shape in shapes]

        def supports_format_combination(self, pos: int, in_out: Sequence[Any], num_inputs: int) -> bool:  # noqa: ARG002
            known = [each.desc for each in in_out[: pos + 1]]
            linear = [each.format == trt.TensorFormat.LINEAR for each in known]
            return supported(self.fields, [our_dtype(each.type) for each in known], linear)

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            """Do nothing: what there is to choose depends on shapes, which come with `on_shape_change`."""

        def get_workspace_size(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> int:  # noqa: ARG002
            if not isinstance(self.fields, GemmFields):
                return 0
            sm, _ = device_limits(current_device())
            return workspace_bytes(pack, self.fields, [tuple(each.max) for each in inputs], sm)

        def set_tactic(self, tactic: int) -> None:
            """Do nothing: there is one tactic."""

        def attach_to_context(self, resource_context: Any) -> Any:  # noqa: ARG002
            attached = self.clone()
            attached.running = Running(pack, self.fields)
            return attached

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:  # noqa: ARG002
            if self.running is not None:
                self.running.prepare([tuple(each.dims) for each in inputs], our_dtype(inputs[0].type))

        def enqueue(
            self,
            input_desc: Any,  # noqa: ARG002
            output_desc: Any,  # noqa: ARG002
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            if self.running is None:
                raise KernelLaunchError("a plugin is run outside of a context", "this is a defect: report it")
            self.running.enqueue(inputs, outputs, workspace, stream)

        def destroy(self) -> None:
            if self.running is not None:
                self.running.close()
                self.running = None

    return Plugin
