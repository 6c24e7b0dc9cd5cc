"""Finding the weights in what `torch.load` returned: a bare state dict, or one nested in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.errors import NotAModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

StateDict = dict[str, torch.Tensor]

# Names that training scripts keep their weights under, most telling first.
_NESTED = ("state_dict", "model_state_dict", "model", "module")
_SHOWN = 5


def unwrap_checkpoint(loaded: Any, source: str) -> tuple[StateDict, list[str]]:
    """Return a checkpoint's tensors by name, and notes on what was passed over.

    Args:
        loaded: what `torch.load` returned.
        source: the path, for errors.

    Raises:
        NotAModelError: it is no dictionary of tensors, nor holds one under a usual name.
    """
    if not isinstance(loaded, dict):
        raise NotAModelError(
            f"{source} holds a {type(loaded).__name__}, not a state dict or a module", _saving_hint()
        )
    weights = _tensors(loaded)
    if weights is not None:
        return weights, []
    for key in _NESTED:
        nested = loaded.get(key)
        found = _tensors(nested) if isinstance(nested, dict) else None
        if found is not None:
            rest = [str(other) for other in loaded if other != key]
            passed = f"; passed over {_few(rest)}" if rest else ""
            return found, [f"took the weights under {key!r}{passed}"]
    keys = _few([str(key) for key in loaded]) or "nothing"
    raise NotAModelError(
        f"{source} holds a dictionary without tensors of its own, or under {', '.join(map(repr, _NESTED))}; "
        f"it holds {keys}",
        _saving_hint(),
    )


def _tensors(mapping: Mapping[Any, Any]) -> StateDict | None:
    """Return the mapping if it is a state dict (`_extra_state` entries left out), else None."""
    kept = {k: v for k, v in mapping.items() if not str(k).endswith("_extra_state")}
    if kept and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in kept.items()):
        return kept
    return None


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _saving_hint() -> str:
    return "save the weights with `torch.save(model.state_dict(), 'weights.pt')`"
