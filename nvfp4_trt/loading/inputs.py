"""Example inputs: random ones from an option, a file's, a function's, or those a program carries."""

from __future__ import annotations

import inspect
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import (
    FactoryImportError,
    FactoryResultError,
    FileMissingError,
    InputsMismatchError,
    InputsMissingError,
    InputSpecError,
    ModelRunError,
    NotAModelError,
    WrongKindError,
)
from nvfp4_trt.loading.factories import call_factory, current_directory_importable
from nvfp4_trt.loading.input_specs import SYNTAX, parse_input_spec
from nvfp4_trt.loading.loaded import Batch, forward_names, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

# What torch says where shapes or dtypes do not go together, or an index is past the end of a table.
_MISFIT = re.compile(r"shape|size|dtype|scalar type|dimension|out of range|out of bounds|channels", re.IGNORECASE)
_HINT = f"give --input {SYNTAX}; or --inputs with a .npz or .safetensors file, or package.module:function"


@dataclass(frozen=True)
class Inputs:
    """Example inputs.

    Attributes:
        batches: at least one; each is one call of the forward.
        origin: where they come from, for a report.
        random: whether they were drawn, and so say nothing about real activations.
    """

    batches: tuple[Batch, ...]
    origin: str
    random: bool


def load_inputs(
    module: nn.Module,
    *,
    specs: Sequence[str] = (),
    source: str | None = None,
    seed: int = 0,
    example: Batch | None = None,
) -> Inputs:
    """Return example inputs, checked against the module's forward.

    Args:
        module: whose forward they are for.
        specs: random inputs, one per parameter, as `NAME:DTYPE:SHAPE[:LOW..HIGH]`; one batch is drawn.
        source: a `.npz` or `.safetensors` file of named tensors (one batch, its first axis is not split),
            or `package.module:function`, which is called without arguments and returns or yields batches:
            dictionaries, tuples or lists of tensors, or single tensors; NumPy arrays will do.
        seed: of the random inputs.
        example: what a program carries; used where neither `specs` nor `source` is given.

    Raises:
        InputsMissingError: none were given, or not for every parameter.
        InputsMismatchError: a name that the forward has not, more tensors than it takes, or another dtype
            than the program's.
        InputSpecError: a spec does not follow its syntax, or both `specs` and `source` are given.
        FileMissingError: there is no such file.
        NotAModelError: the file cannot be read, or is of neither kind.
        FactoryImportError: the function cannot be imported, or raised.
        FactoryResultError: the function gave no batches.
    """
    batches = tuple(stream_inputs(module, specs=specs, source=source, seed=seed, example=example))
    if specs:
        origin = f"random, seed {seed}: {' '.join(specs)}"
    else:
        origin = "the program's own example inputs" if source is None else source
    return Inputs(batches, origin, random=bool(specs))


def stream_inputs(
    module: nn.Module,
    *,
    specs: Sequence[str] = (),
    source: str | None = None,
    seed: int = 0,
    example: Batch | None = None,
) -> Iterator[Batch]:
    """Yield example inputs one batch at a time: those of a function are made as they are asked for.

    Args: and raises: as `load_inputs`.
    """
    if specs and source is not None:
        raise InputSpecError("--input and --inputs were both given", "give one of them")
    if specs:
        batches: Iterable[Batch] = [_draw(specs, seed)]
    elif source is not None:
        batches = _from_source(module, source)
    elif example is not None:
        batches = [example]
    else:
        listed = ", ".join(forward_names(module).all)
        raise InputsMissingError(f"the model needs example inputs for its forward({listed})", _HINT)
    for batch in batches:
        yield _checked(module, batch, example)


def check_runs(module: nn.Module, batch: Batch) -> Any:
    """Run one forward without gradients and return its output.

    Raises:
        InputsMismatchError: the call does not fit the forward, or a shape or dtype does not fit a layer.
        ModelRunError: the forward raised anything else.
    """
    try:
        inspect.signature(module.forward).bind(**batch)
    except TypeError as error:
        raise InputsMismatchError(
            f"the model's forward does not take {', '.join(batch)}: {error}",
            f"its parameters are {', '.join(forward_names(module).all)}",
        ) from error
    try:
        with torch.no_grad():
            return module(**batch)
    except Exception as error:  # the model's own code runs
        if isinstance(error, (RuntimeError, IndexError, ValueError)) and _MISFIT.search(str(error)):
            raise InputsMismatchError(
                f"the model raised on {shapes_of(batch)}: {first_line(error)}",
                "check the shapes, dtypes and ranges of the inputs against what the model was trained on",
            ) from error
        raise ModelRunError(
            f"the model raised on {shapes_of(batch)}: {first_line(error)}",
            "run it by itself on these inputs first",
        ) from error


def _draw(specs: Sequence[str], seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    batch: Batch = {}
    for text in specs:
        spec = parse_input_spec(text)
        if spec.name in batch:
            raise InputSpecError(f"--input {spec.name} is given twice", "give each parameter once")
        batch[spec.name] = spec.draw(generator)
    return batch


def _from_source(module: nn.Module, source: str) -> Iterable[Batch]:
    path = Path(source)
    if path.suffix in {".npz", ".safetensors"}:
        if not path.is_file():
            raise FileMissingError(f"the inputs {path} do not exist", "check the path")
        return [_read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)]
    if path.exists() or ":" not in source:
        raise WrongKindError(
            f"--inputs {source} is neither a .npz or .safetensors file nor package.module:function",
            "save them with `numpy.savez('inputs.npz', name=array)`",
        )
    return _from_function(module, source)


def _read_npz(path: Path) -> Batch:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise NotAModelError(
            f"the inputs {path} cannot be read: {first_line(error)}",
            "save arrays of numbers by name: `numpy.savez('inputs.npz', name=array)`",
        ) from error


def _read_safetensors(path: Path) -> Batch:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError) as error:
        raise NotAModelError(
            f"the inputs {path} cannot be read: {first_line(error)}", "save them again"
        ) from error


def _from_function(module: nn.Module, source: str) -> Iterator[Batch]:
    made = call_factory(source, option="--inputs")
    single = isinstance(made, (torch.Tensor, np.ndarray, Mapping)) or (
        isinstance(made, tuple) and all(isinstance(item, (torch.Tensor, np.ndarray)) for item in made)
    )
    if not single and not isinstance(made, Iterable):
        raise FactoryResultError(
            f"--inputs {source} returned a {type(made).__name__}, not batches",
            "return or yield dictionaries of tensors, keyed by the forward's parameters",
        )
    count = 0
    for item in _iterated([made] if single else made, source):
        count += 1
        yield _as_batch(module, item, source)
    if not count:
        raise FactoryResultError(f"--inputs {source} gave no batch", "return or yield at least one")


def _iterated(items: Iterable[Any], source: str) -> Iterator[Any]:
    """Yield the items; a generator's body runs only now, and what it raises is told as the function's."""
    end = object()
    try:
        with current_directory_importable():
            iterator = iter(items)
        while True:
            with current_directory_importable():
                item = next(iterator, end)
            if item is end:
                return
            yield item
    except Exception as error:
        raise FactoryImportError(
            f"--inputs {source}: iterating over what it returned raised {first_line(error)}",
            "run it by itself first",
        ) from error


def _as_batch(module: nn.Module, item: Any, source: str) -> Batch:
    """Name the tensors of one batch: by its keys, or by the forward's parameters in order."""
    if isinstance(item, Mapping):
        return {str(name): _as_tensor(value, source) for name, value in item.items()}
    values = list(item) if isinstance(item, (tuple, list)) else [item]
    names = forward_names(module).all
    if len(values) > len(names):
        raise InputsMismatchError(
            f"--inputs {source} gave {len(values)} tensors, the forward takes {', '.join(names) or 'none'}",
            "give a dictionary, keyed by the forward's parameters",
        )
    return {name: _as_tensor(value, source) for name, value in zip(names, values, strict=False)}


def _as_tensor(value: Any, source: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    raise FactoryResultError(
        f"--inputs {source} gave a {type(value).__name__} where a tensor is needed",
        "return or yield tensors or NumPy arrays of numbers",
    )


def _checked(module: nn.Module, batch: Batch, example: Batch | None) -> Batch:
    """Return a batch in the forward's order, or raise where its names or dtypes do not fit."""
    names = forward_names(module)
    unknown = [name for name in batch if name not in names.all and not names.open]
    if unknown:
        raise InputsMismatchError(
            f"the model's forward has no parameter {', '.join(map(repr, unknown))}",
            f"its parameters are {', '.join(names.all)}",
        )
    missing = [name for name in names.required if name not in batch]
    if missing:
        raise InputsMissingError(
            f"the inputs lack {', '.join(missing)}, of the model's forward({', '.join(names.all)})", _HINT
        )
    for name, tensor in batch.items():
        wanted = example[name].dtype if example and name in example else None
        if wanted is not None and tensor.dtype != wanted:
            raise InputsMismatchError(
                f"the input {name} is {tensor.dtype}, and the program was exported for {wanted}",
                f"give it as {wanted}".replace("torch.", ""),
            )
    ordered = [name for name in names.all if name in batch]
    return {name: batch[name] for name in [*ordered, *(n for n in batch if n not in names.all)]}
