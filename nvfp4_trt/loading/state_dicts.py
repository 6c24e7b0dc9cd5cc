"""Putting a state dict into a factory's module: strictly, without a second copy, ties kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from nvfp4_trt.errors import FactoryImportError, FactoryResultError, StateDictMismatchError
from nvfp4_trt.loading.factories import call_factory
from nvfp4_trt.loading.skeleton import depends_on_weights, parameters_on_meta
from nvfp4_trt.loading.stored import release

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.loading.checkpoints import StateDict
    from nvfp4_trt.loading.spill import Spill

_SHOWN = 4
WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name when they wrap a model."""


class Filled(NamedTuple):
    """A factory's module with its weights, and notes on what was changed to fit."""

    module: nn.Module
    notes: list[str]


def fill_factory(
    factory: str,
    weights: StateDict,
    source: str,
    spill: Spill | None = None,
    *,
    adapt: Callable[[nn.Module], nn.Module] | None = None,
) -> Filled:
    """Call a factory and give its module the weights.

    The factory's parameters are made without data, where it does not compute with them. Tensors are assigned,
    not copied, where their dtype is the module's already: memory-mapped weights stay mapped. Others are cast to
    the module's dtype. Parameters that are one tensor in the module stay one.

    Args:
        factory: `package.module:function`, called without arguments; twice where its code needs data in
            parameters.
        weights: tensors by qualified name.
        source: the path, for errors.
        spill: where tensors that are cast are kept; in memory by default.
        adapt: changes the factory's module before it takes the weights, and returns it.

    Raises:
        FactoryImportError: see `call_factory`.
        FactoryResultError: the factory returned no `nn.Module`, or one with parts left on `meta`.
        StateDictMismatchError: names or shapes differ, or the file unties what the module ties.
    """
    module = _made(factory)
    if not isinstance(module, nn.Module):
        raise FactoryResultError(
            f"--model {factory} returned a {type(module).__name__}, not an nn.Module",
            "return the module itself, without weights: they are loaded from the file",
        )
    module = module if adapt is None else adapt(module)
    notes: list[str] = []
    expected = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, torch.Tensor)}
    weights = _unprefixed(weights, expected, notes)
    ties = _ties(expected)
    weights = _with_ties_filled(weights, ties, notes)
    _check_names_and_shapes(weights, expected, factory, source)
    _check_ties_agree(weights, ties, source)
    # strict=False: only `_extra_state` can be missing now, every tensor has been checked above
    module.load_state_dict(_in_module_dtypes(weights, expected, notes, spill), strict=False, assign=True)
    _retie(module, ties)
    _check_nothing_on_meta(module, factory)
    return Filled(module.eval(), notes)


def _made(factory: str) -> object:
    try:
        with parameters_on_meta():
            module = call_factory(factory, option="--model")
    except FactoryImportError:
        pass  # the same error again, or it was for want of data
    else:
        if isinstance(module, nn.Module) and not depends_on_weights(module):
            return module
    return call_factory(factory, option="--model")


def _unprefixed(weights: StateDict, expected: StateDict, notes: list[str]) -> StateDict:
    """Take off the prefixes that every name in the file has and none in the module, wrapper by wrapper."""
    for prefix in WRAPPERS:
        wrapped = all(name.startswith(prefix) for name in weights)
        if wrapped and not any(name.startswith(prefix) for name in expected):
            notes.append(f"removed the prefix {prefix!r} from every name")
            bare = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
            return _unprefixed(bare, expected, notes)
    return weights


def _ties(expected: StateDict) -> list[list[str]]:
    """Return the groups of names that are one tensor object in the module."""
    by_object: dict[int, list[str]] = {}
    for name, tensor in expected.items():
        by_object.setdefault(id(tensor), []).append(name)
    return [names for names in by_object.values() if len(names) > 1]


def _with_ties_filled(weights: StateDict, ties: list[list[str]], notes: list[str]) -> StateDict:
    """Give names that a file leaves out the tensor that they are tied to (safetensors saves each once)."""
    filled = dict(weights)
    for names in ties:
        present = [name for name in names if name in weights]
        for name in names:
            if present and name not in filled:
                filled[name] = weights[present[0]]
                notes.append(f"{name} is not in the file: it is tied to {present[0]}")
    return filled


def _check_names_and_shapes(weights: StateDict, expected: StateDict, factory: str, source: str) -> None:
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} (file {list(weights[name].shape)}, module {list(tensor.shape)})"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shapes))
        if names
    ]
    if problems:
        raise StateDictMismatchError(
            f"{source} does not fit --model {factory}: {'; '.join(problems)}",
            "build the module with the configuration that it was trained with",
        )


def _check_ties_agree(weights: StateDict, ties: list[list[str]], source: str) -> None:
    for names in ties:
        first = weights[names[0]]
        for other in names[1:]:
            if first is weights[other]:
                continue
            equal = torch.equal(first, weights[other])
            release(first)
            release(weights[other])
            if not equal:
                raise StateDictMismatchError(
                    f"{names[0]} and {other} are one tensor in the module, but differ in {source}",
                    "build the module without tying them",
                )


def _in_module_dtypes(weights: StateDict, expected: StateDict, notes: list[str], spill: Spill | None) -> StateDict:
    cast: dict[str, int] = {}
    fitted: StateDict = {}
    known: dict[tuple[int, torch.dtype], torch.Tensor] = {}  # tied names have one tensor
    for name, tensor in weights.items():
        wanted = expected[name].dtype
        if tensor.dtype != wanted:
            change = f"{tensor.dtype} to {wanted}".replace("torch.", "")
            cast[change] = cast.get(change, 0) + 1
        key = id(tensor), wanted
        if key not in known:
            spilled = spill is not None and tensor.dtype != wanted
            known[key] = spill.cast(tensor, wanted) if spilled and spill else tensor.to(wanted)
        fitted[name] = known[key]
    notes += [f"cast {count} tensors from {change}, the module's dtype" for change, count in cast.items()]
    return fitted


def _retie(module: nn.Module, ties: list[list[str]]) -> None:
    for names in ties:
        kept = _owner(module, names[0])
        tensor = getattr(kept, names[0].rpartition(".")[2])
        for other in names[1:]:
            setattr(_owner(module, other), other.rpartition(".")[2], tensor)


def _owner(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name.rpartition(".")[0])


def _check_nothing_on_meta(module: nn.Module, factory: str) -> None:
    # `remove_duplicate` does not matter here; non-persistent buffers are what a state dict leaves out
    left = [name for name, t in (*module.named_parameters(), *module.named_buffers()) if t.is_meta]
    if left:
        raise FactoryResultError(
            f"--model {factory} builds on the meta device, the file does not fill {', '.join(left[:_SHOWN])}",
            "create non-persistent buffers on a real device: `torch.arange(n, device='cpu')`",
        )
