"""What enters the layers, as the portable file quantizes it on ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import ml_dtypes
import numpy as np
import onnx_ir as ir

from nvfp4_trt.comparison import run_all
from nvfp4_trt.portable import find_sites, load
from nvfp4_trt.reporting.data import Run
from nvfp4_trt.reporting.distributions import Counter
from nvfp4_trt.runners import as_feed
from nvfp4_trt.tapping import Copies, Copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.loading import Batch
    from nvfp4_trt.portable import Site
    from nvfp4_trt.reporting.data import Codes, Scales

_QUANTIZERS = {"Quantize", "QuantizeSingleLevel"}


class _Taps(NamedTuple):
    """Names of the outputs that show one quantizer."""

    packed: str
    block_scale: str
    """In fp32: ONNX Runtime hands out no e4m3."""
    scale: str
    """The per-tensor scale where it is computed at run time; else empty."""


def activation_distributions(path: Path, batches: Sequence[Batch]) -> dict[str, tuple[Codes, Scales, Run | None]]:
    """Run a portable file, and count what its quantizers make.

    Args:
        path: the file.
        batches: its inputs; others of the forward may be among them.

    Returns:
        Layer → codes, block scales, and the per-tensor scales where they were computed; layers that read one
        activation share it.

    Raises:
        OnnxRunError: ONNX Runtime refused the file, or failed in it.
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load`.
    """
    model, _ = load(path)
    with Copies(model, str(path)) as copies:
        copy = copies.model.clone()
        taps = _tapped(copy)
        runner = copies.runner(Copy(copy, {}), name="quantizers")
        taken = [str(value.name) for value in copy.graph.inputs]
        feeds = [{name: array for name, array in as_feed(batch).items() if name in taken} for batch in batches]
        counters = {each: Counter() for each in taps.values()}
        scales: dict[_Taps, list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {
            each: [] for each in counters
        }
        for feed in feeds:  # one at a time: what all quantizers make is in memory meanwhile
            (results,) = run_all([runner], [feed], path)
            made = dict(results[0].items())
            for each, counter in counters.items():
                counter.add(made[each.packed], made[each.block_scale].astype(ml_dtypes.float8_e4m3fn))
                if each.scale:
                    scales[each].append(made[each.scale].reshape(-1))
    told = {each: (counter.codes(), counter.scales(), _run(scales[each])) for each, counter in counters.items()}
    return {layer: told[each] for layer, each in taps.items()}


def _tapped(model: ir.Model) -> Mapping[str, _Taps]:
    """Make what each quantizer of an NVFP4 layer makes an output, once; return the taps of each layer."""
    found: dict[str, _Taps] = {}
    shown: dict[str, _Taps] = {}
    for site in find_sites(model.graph):
        if site.quantize is None or site.quantize.op_type not in _QUANTIZERS:
            continue
        name = str(site.quantize.outputs[0].name)
        if name not in shown:
            shown[name] = _show(model.graph, site)
        found[site.layer] = shown[name]
    return found


def _show(graph: ir.Graph, site: Site) -> _Taps:
    if site.quantize is None:
        raise ValueError(f"{site.layer} has no quantizer")
    packed, block_scale = site.quantize.outputs
    cast = ir.node("Cast", [block_scale], {"to": int(ir.DataType.FLOAT)}, name=f"{block_scale.name}:shown")
    cast.outputs[0].name = f"{block_scale.name}:shown"
    graph.append(cast)
    scale = None if site.scale is None else site.scale.outputs[0]
    for value, dtype in ((packed, ir.DataType.UINT8), (cast.outputs[0], ir.DataType.FLOAT), (scale, None)):
        if value is None:
            continue
        value.type = ir.TensorType(dtype or ir.DataType.FLOAT)
        if value not in graph.outputs:
            graph.outputs.append(value)
    return _Taps(str(packed.name), str(cast.outputs[0].name), "" if scale is None else str(scale.name))


def _run(scales: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> Run | None:
    if not scales:
        return None
    every = np.concatenate(scales)
    every = every[np.isfinite(every)]
    if not every.size:
        return None
    return Run(
        low=float(every.min()), median=float(np.median(every)), high=float(every.max()), count=int(every.size)
    )
