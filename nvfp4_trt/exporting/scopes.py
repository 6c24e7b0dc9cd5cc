"""Which module of the torch model a node of the exporter's graph comes from."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

_SCOPES = "pkg.torch.onnx.name_scopes"


def module_path(node: ir.Node) -> str:
    """Return the name by which the forward reached the innermost public module; "" for the model itself."""
    text = node.metadata_props.get(_SCOPES)
    if not text:
        return ""
    scopes = [scope for scope in ast.literal_eval(text)[:-1] if scope and not scope.startswith("_")]
    return str(scopes[-1]) if scopes else ""


def first_names(root: nn.Module) -> dict[str, str]:
    """Return, for each name of a module below `root`, the first that it has."""
    first = {module: name for name, module in root.named_modules()}
    return {name: first[module] for name, module in root.named_modules(remove_duplicate=False)}
