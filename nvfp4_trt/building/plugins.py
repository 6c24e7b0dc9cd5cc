"""Building with the plugin: which kernel pack, which implementation, and what proves that its GEMM is FP4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvfp4_trt.auditing import PluginGemms
from nvfp4_trt.building.backends import local_architecture
from nvfp4_trt.building.spec import PluginSpec
from nvfp4_trt.errors import BackendMissingError, BuildFailedError, FileMissingError, WrongKindError
from nvfp4_trt.kernels import load_pack
from nvfp4_trt.kernels.cached import default_pack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nvfp4_trt.building.backends import Backend
    from nvfp4_trt.building.spec import PluginForm
    from nvfp4_trt.kernels import KernelFile, Pack
    from nvfp4_trt.plugin.aot import AotPlugins

LIBRARY = "libnvfp4_plugin.so"
"""The C++ plugin's file name, as its build gives it."""


def choose_plugin(
    backend: Backend,
    targets: Sequence[str],
    plugin: bool | Path,
    library: Path | None = None,
    form: PluginForm = "jit",
) -> PluginSpec | None:
    """Return what to build with, or None for a build without plugins.

    Args:
        backend: the TensorRT module.
        targets: the architectures asked for; empty for this machine's GPU.
        plugin: whether to build with the plugin, or the folder of its kernel pack. Without a folder, a pack for
            the one architecture is made once and kept in the user's cache.
        library: the C++ plugin, to be loaded instead of the Python one.
        form: of the Python plugin: `jit`, or `aot` for kernels that travel in the engine.

    Raises:
        PluginsUnsupportedError: the backend builds no plugins.
        FileMissingError, PackInvalidError, KernelMissingError: no usable kernel pack, or no such library.
        WrongKindError: the library was not built from the pack.
    """
    if not plugin and library is None:
        return None
    backend.check_plugins()
    target = targets[0] if targets else local_architecture()
    if target is None:
        raise BackendMissingError(
            "nvidia-smi finds no GPU here to build plugins for", "build on the GPU's machine"
        )
    sm = int(target.removeprefix("sm_"))
    if library is not None and not library.is_file():
        raise FileMissingError(f"{library} does not exist", "build it: see plugins/README.md")
    pack = default_pack(sm) if isinstance(plugin, bool) else load_pack(plugin)
    gemms = gemm_files(pack, sm)
    if library is not None:
        _check_library(library, pack, gemms)
    return PluginSpec(pack=pack.root.resolve(), sm=sm, library=library, form=form)


def gemm_files(pack: Pack, sm: int) -> list[KernelFile]:
    """Return the pack's GEMM kernels for an architecture.

    Raises:
        KernelMissingError: there is none.
    """
    found = [each for each in pack.manifest.kernels if each.kernel == "gemm" and each.sm == sm]
    return found or [pack.file("gemm", "f16", sm)]  # which raises, and says what the pack has


def plugin_gemms(spec: PluginSpec | None, nodes: dict[str, tuple[str, ...]]) -> PluginGemms | None:
    """Return what the audit needs to know of the plugin's GEMMs.

    An ahead-of-time plugin's GEMMs are compiled again from the pack's sources, and go through the check that the
    pack's went through: one without the instruction ends the build.

    Args:
        spec: the plugin of the build; None where it had none.
        nodes: name of an `Nvfp4Gemm` node → the layers that it computes.
    """
    if spec is None:
        return None
    weight = (1, 3) if spec.form == "aot" else (3, 4)
    files = gemm_files(load_pack(spec.pack), spec.sm)
    without = [each.file for each in files if not each.fp4_opcode]
    if without:
        reason = f"{without[0]} of the kernel pack holds no FP4 instruction"
        return PluginGemms(nodes=nodes, opcode="", reason=reason, weight=weight)
    opcodes = sorted({each.fp4_opcode or "" for each in files})
    return PluginGemms(nodes=nodes, opcode=", ".join(opcodes), weight=weight)


def load_plugin(trt: Any, spec: PluginSpec | None) -> list[Any]:
    """Make TensorRT know the plugin; return what must be kept until the engine is built.

    Raises:
        BuildFailedError: TensorRT refused the library.
    """
    if spec is None:
        return []
    if spec.form == "aot":
        return [_register_aot(trt, spec)]
    if spec.library is None:
        from nvfp4_trt.plugin import register

        return register(trt, load_pack(spec.pack))
    registry = trt.get_plugin_registry()
    handle = registry.load_library(str(spec.library))
    if handle is None:
        raise BuildFailedError(
            f"TensorRT did not load {spec.library}",
            "its plugins may be registered already; see the log: --log FILE",
        )
    return [handle]


def _register_aot(trt: Any, spec: PluginSpec) -> AotPlugins:
    import importlib

    from nvfp4_trt.kernels.driver import device_limits
    from nvfp4_trt.plugin.aot import register_aot

    _, device = device_limits(0)
    rows = load_pack(spec.pack).manifest.gemm_tiles[f"sm_{spec.sm}"]["rows"]
    return register_aot(trt, importlib.import_module(f"{trt.__name__}.plugin"), rows, spec.sm, device)


def _check_library(library: Path, pack: Pack, gemms: Sequence[KernelFile]) -> None:
    """Hold the library against the pack whose record is to vouch for it: a library embeds cubins as they are."""
    held = library.read_bytes()
    missing = [each.file for each in gemms if pack.read(each) not in held]
    if missing:
        raise WrongKindError(
            f"{library} does not hold {missing[0]} of the kernel pack {pack.root}",
            "name the pack that it was built from: --plugin=PACK; the audit goes by its record",
        )
