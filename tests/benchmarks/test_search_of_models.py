"""The search on the benchmarks' models, scaled down: it never keeps more kernels than the plain lowering has."""

import pytest
import torch
from test_models import models

import nvfp4_trt
from nvfp4_trt.building import build_engine
from nvfp4_trt.building.search import WORTH
from nvfp4_trt.passes import PLAIN

pytestmark = pytest.mark.long
RTX = "tensorrt_rtx"
DYNAMIC, FIXED = True, False
CASES = [
    *[(name, "w4a4-dynamic-token", DYNAMIC) for name in models.NAMES if name != "bert-base"],
    *[(name, "w4a4-dynamic-token", FIXED) for name in models.NAMES if name != "bert-base"],
    ("bert-base", "w4a4-static", DYNAMIC),
]
"""bert-base is minilm's layer, wider: once is enough."""


@pytest.mark.parametrize(
    ("name", "recipe", "dynamic"), CASES, ids=lambda part: {DYNAMIC: "dynamic", FIXED: "fixed"}.get(part, part)
)
def test_the_search_keeps_no_more_kernels_than_the_plain_lowering_has(name, recipe, dynamic, tmp_path):
    sample = models.make(name, 1, torch.float16, scale=8, batch=2, sequence=128)
    portable = tmp_path / "model.onnx"
    named = sample.dynamic if dynamic else ()
    nvfp4_trt.export(sample.module, portable, recipe=recipe, inputs=[sample.inputs], dynamic=named)
    plain = build_engine(portable, tmp_path / "off.engine", backend=RTX, optimize="off")
    found = build_engine(portable, tmp_path / "fast.engine", backend=RTX, optimize="fast", cache=False)
    assert found.audit.kernels <= plain.audit.kernels
    first, *others = found.record.candidates
    assert (first.form, first.kernels, first.bytes) == (PLAIN, plain.audit.kernels, plain.record.cost["bytes"])
    least = min(each.microseconds for each in (first, *others) if not each.error)
    assert found.record.cost["microseconds_modelled"] == (
        least if least <= WORTH * first.microseconds else first.microseconds
    )
    asked, realized = found.audit.counts("nvfp4")
    assert asked == realized > 0
