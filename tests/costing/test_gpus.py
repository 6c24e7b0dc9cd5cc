import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from nvfp4_trt.building import BACKENDS
from nvfp4_trt.costing import GPUS, find_gpu, gpu_called, gpu_for
from nvfp4_trt.costing.gpus import _BY_DRIVER, ASSUMED_LAUNCH_US
from nvfp4_trt.errors import UnknownGpuError

PAGE = Path(__file__).parents[2] / "docs" / "cost-model.md"


def test_gpus_are_found_however_they_are_written():
    assert find_gpu("rtx5090") is GPUS["rtx5090"]
    assert find_gpu(" RTX PRO_6000 ") is GPUS["rtx-pro-6000"]


def test_an_unknown_gpu_is_refused_with_the_known_ones():
    with pytest.raises(UnknownGpuError, match="'rtx4090'") as caught:
        find_gpu("rtx4090")
    assert caught.value.code == "gpu-unknown"
    assert all(name in caught.value.hint for name in GPUS)


def test_every_target_of_the_backends_has_a_gpu_of_its_architecture():
    for backend in BACKENDS.values():
        for target in backend.targets:
            assert gpu_for([target]).sm == target
    assert gpu_for(["sm_121", "sm_120"]).sm == "sm_121"
    assert gpu_for([]).sm == "sm_120"
    with pytest.raises(UnknownGpuError, match="sm_89"):
        gpu_for(["sm_89"])


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_figures_are_plausible_and_say_where_they_come_from(gpu):
    peaks = [gpu.peak(precision) for precision in ("fp4", "fp8", "fp16", "fp32")]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[0] == gpu.fp4_tflops * 1e12
    assert peaks[0] >= 2 * peaks[1] * 0.99  # FP4 is at least twice FP8's rate
    assert gpu.launch_us == ASSUMED_LAUNCH_US
    assert "NVIDIA" in gpu.source or "nvidia.com" in gpu.source
    assert "assumption" in gpu.source
    with pytest.raises(ValidationError):
        gpu.fp4_tflops = 1


def test_the_documented_table_is_the_table():
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.* \| `sm_.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == list(GPUS)
    for name, cells in rows:
        gpu = GPUS[name]
        title, sm, *figures = [cell.strip() for cell in cells.split("|")]
        assert (title, sm) == (gpu.title, f"`{gpu.sm}`")
        rates = (gpu.fp4_tflops, gpu.fp8_tflops, gpu.fp16_tflops, gpu.fp32_tflops)
        assert [float(figure) for figure in figures] == [*rates, gpu.bandwidth_gbs, gpu.memory_gb, gpu.l2_mb]


def test_every_gpu_of_the_table_has_a_name():
    assert set(_BY_DRIVER.values()) == set(GPUS)


def test_whole_names_count():
    assert gpu_called("NVIDIA GeForce RTX 5090") is GPUS["rtx5090"]
    assert gpu_called("NVIDIA GeForce RTX 5090 Laptop GPU") is None
    assert gpu_called("NVIDIA H100 80GB HBM3") is None
