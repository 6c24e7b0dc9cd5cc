"""Loading `.pt2` files: the programs that `torch.export.save` writes."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.export.pt2_archive._package import load_pt2
from torch.utils import _pytree as pytree

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import DependencyMissingError, NotAModelError, UntrustedCodeError, WrongKindError
from nvfp4_trt.loading.factories import current_directory_importable
from nvfp4_trt.loading.raise_linears import raise_linears
from nvfp4_trt.loading.sniffing import FileKind
from nvfp4_trt.loading.vetting import unsafe_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import fx
    from torch.export import ExportedProgram

    from nvfp4_trt.loading.loaded import Batch

_SHOWN = 3


class Program(NamedTuple):
    """A program's module, the inputs it was exported with (None where they are not all tensors), notes."""

    module: fx.GraphModule
    example: Batch | None
    notes: list[str]


def load_program(path: Path, kind: FileKind, *, trust: bool) -> Program:
    """Load a `.pt2` file as a module whose linears are `nn.Linear`s.

    Args:
        path: the file.
        kind: `PROGRAM`, or `PROGRAM_LEGACY` for torch 2.7 and before, which always needs trust.
        trust: whether code in the file may run.

    Raises:
        UntrustedCodeError: it carries more than an ordinary program, and is not trusted.
        WrongKindError: it holds no program, or several.
        DependencyMissingError: it uses a package's types or operators that are not there.
        NotAModelError: torch cannot read it.
    """
    exported = _read_legacy(path, trust=trust) if kind is FileKind.PROGRAM_LEGACY else _read(path, trust=trust)
    # Guards are code compiled from the file's texts, and would hold every input to the exported shapes.
    module = exported.module(check_guards=False)
    names = list(inspect.signature(module.forward).parameters)
    _drop_constant_inputs(module)
    raised = raise_linears(module)
    notes = [f"raised {len(raised.names)} linear operators to nn.Linear modules"]
    if raised.left:
        notes.append(f"{raised.left} linear operators read no weight of their own, and stay operators")
    if not exported.range_constraints:
        notes.append("the program was exported with fixed shapes: other shapes may not run, or run wrongly")
    example = _example(exported, names, raised.module)
    if example is None:
        notes.append("the program's own example inputs are not all tensors, and are not used")
    return Program(raised.module.eval(), example, notes)


def _read(path: Path, *, trust: bool) -> ExportedProgram:
    with path.open("rb") as file:
        with _torch_errors(path):
            reader = torch._C.PyTorchFileReader(file)  # noqa: SLF001
            records = reader.get_all_records()
        models = [name for name in records if name.startswith("models/")]
        if any(name.startswith("data/aotinductor/") for name in records) or len(models) != 1:
            raise WrongKindError(
                f"{path} should hold one torch.export program, and holds "
                + (", ".join(models) or "none: it is compiled for AOTInductor, most likely"),
                "save one with `torch.export.save(torch.export.export(model, (x,)), 'model.pt2')`",
            )
        if not trust:
            _vet(path, reader)
        if b"transformers.modeling_outputs" in reader.get_record(models[0]):
            _register_output_types()
        file.seek(0)
        # not `torch.export.load`: where `load_pt2` raises, that goes on to the legacy format's pickles
        with _torch_errors(path), current_directory_importable():
            return next(iter(load_pt2(file).exported_programs.values()))


def _register_output_types() -> None:
    """Make the types that Hugging Face models return known to pytree: importing them does it."""
    if importlib.util.find_spec("transformers") is not None:
        importlib.import_module("transformers.modeling_outputs")


def _read_legacy(path: Path, *, trust: bool) -> ExportedProgram:
    if not trust:
        raise UntrustedCodeError(
            f"{path} is a torch.export program in the format of torch 2.7 and before, which is pickled: "
            "loading it runs code that the file names",
            f"if you trust where it comes from: nvfp4-trt export {path} --trust-pickle; or save it "
            "again with torch 2.8 or later",
        )
    with _torch_errors(path), current_directory_importable():
        return torch.export.load(path)


def _vet(path: Path, reader: torch._C.PyTorchFileReader) -> None:
    unsafe = unsafe_parts(reader)
    if unsafe:
        more = f" and {len(unsafe) - _SHOWN} more" if len(unsafe) > _SHOWN else ""
        raise UntrustedCodeError(
            f"{path} is a torch.export program that carries {', '.join(unsafe[:_SHOWN])}{more}: loading or "
            "running it could run code that the file names",
            f"if you trust where it comes from: nvfp4-trt export {path} --trust-pickle",
        )


@contextmanager
def _torch_errors(path: Path) -> Iterator[None]:
    """Turn what torch raises on a file into our errors, and keep its tracebacks out of the log."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except NotImplementedError as error:
        raise DependencyMissingError(
            f"{path} uses a type that is not known here: {first_line(error)}",
            "install the package that it comes from, such as: pip install 'nvfp4-trt[hf]' for transformers",
        ) from error
    except Exception as error:  # torch raises whatever its parsers run into
        raise NotAModelError(
            f"{path} is a .pt2 archive that torch {torch.__version__} cannot read: {_last_line(error)}",
            "save it again with this version of torch",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _last_line(error: Exception) -> str:
    """Return the cause: torch wraps it in whole tracebacks, whose last line it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _drop_constant_inputs(module: fx.GraphModule) -> None:
    """Remove the inputs that were exported as None, numbers or text: the graph has them built in.

    The exported signature would go on requiring them, without using them.
    """
    info = module.graph._codegen.pytree_info  # type: ignore[attr-defined]  # noqa: SLF001
    spec = info.in_spec
    holders = module.graph.find_nodes(op="placeholder")
    flat = [leaf for group in spec.children() for leaf in group.children()]
    if len(flat) != len(holders) or not all(leaf.is_leaf() for leaf in flat):
        return  # nested inputs keep their structure
    kept = [not _is_constant(node) for node in holders]
    positional = spec.child(0).num_children
    names = [n for n, keep in zip(spec.child(1).context, kept[positional:], strict=True) if keep]
    count = sum(kept[:positional])
    module.graph._codegen.pytree_info = info._replace(  # type: ignore[attr-defined]  # noqa: SLF001
        orig_args=[name for name, keep in zip(info.orig_args, kept, strict=True) if keep],
        in_spec=pytree.tree_structure(((0,) * count, dict.fromkeys(names, 0))),
    )
    for node, keep in zip(holders, kept, strict=True):
        if not keep:
            module.graph.erase_node(node)


def _is_constant(node: fx.Node) -> bool:
    return not node.users and isinstance(node.meta.get("val"), (type(None), bool, int, float, str))


def _example(exported: ExportedProgram, names: list[str], module: fx.GraphModule) -> Batch | None:
    if exported.example_inputs is None:
        return None
    args, kwargs = exported.example_inputs
    given: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
    wanted = list(inspect.signature(module.forward).parameters)
    if not all(isinstance(given.get(name), torch.Tensor) for name in wanted):
        return None
    return {name: given[name].detach() for name in wanted}
