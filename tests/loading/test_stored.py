"""Tensors in files: mapped, read, released, and put aside in a scratch file."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from nvfp4_trt.errors import DiskFullError, FileTruncatedError, OutputUnwritableError
from nvfp4_trt.loading import Spill
from nvfp4_trt.loading.stored import map_file, read, region_of, release, releasing


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(torch.arange(100_000, dtype=torch.int32).numpy().tobytes())
    return path


def resident(path):
    """Return how many bytes of maps of a file the kernel counts as this process's memory."""
    total, ours = 0, False
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            if "-" in line.split(" ", 1)[0]:
                ours = str(path) in line
            elif ours and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def test_a_mapped_tensor_knows_its_place(file):
    tensor = map_file(file, 4, 399_996).view(torch.int32)
    assert torch.equal(tensor, torch.arange(1, 100_000, dtype=torch.int32))
    assert region_of(tensor) == (str(file), 4, 399_996)
    assert region_of(tensor[10:20]) == (str(file), 44, 40)
    assert region_of(nn.Parameter(tensor, requires_grad=False)) == (str(file), 4, 399_996)


def test_a_piece_in_the_middle(file):
    tensor = map_file(file, 20_000, 4_000).view(torch.int32)
    assert tensor[0] == 5_000
    assert region_of(tensor[1:]) == (str(file), 20_004, 3_996)


def test_what_is_no_piece_of_a_file(file):
    tensor = map_file(file, 0, 400_000).view(torch.int32).view(100, 1000)
    assert region_of(tensor.t()) is None
    assert region_of(torch.zeros(8)) is None
    assert region_of(torch.zeros(8, device="meta")) is None
    assert region_of(tensor[:0]) is None


def test_what_was_written_to_is_not_read_from_the_file(file):
    tensor = map_file(file, 0, 400_000).view(torch.int32)
    tensor[5] = -1
    assert region_of(tensor) is None
    release(tensor)
    assert tensor[5] == -1
    assert read(tensor) is tensor
    assert int.from_bytes(file.read_bytes()[20:24], "little") == 5


def test_reading_and_releasing_leave_no_pages(file):
    tensor = map_file(file, 0, 400_000).view(torch.int32)
    copy = read(tensor)
    assert resident(file) == 0
    assert torch.equal(copy, tensor)
    assert resident(file) >= 390_000
    release(tensor)
    assert resident(file) <= 8192
    assert torch.equal(copy, tensor)


def test_a_forward_gives_each_layers_pages_back(file):
    layer = nn.Linear(1, 100_000, bias=False)
    layer.weight = nn.Parameter(map_file(file, 0, 400_000).view(torch.float32).view(-1, 1))
    with releasing(layer), torch.no_grad():
        expected = layer(torch.ones(1, 1))
        assert resident(file) <= 8192
    assert torch.equal(layer(torch.ones(1, 1)), expected)
    assert resident(file) >= 390_000


def test_a_file_that_became_shorter(file):
    tensor = map_file(file, 0, 400_000)
    os.truncate(file, 300_000)
    with pytest.raises(FileTruncatedError, match="ends at byte 300000, within a tensor that starts at 0"):
        read(tensor)


def test_a_spill_gives_back_what_it_was_given(tmp_path):
    torch.manual_seed(0)
    large, odd = torch.randn(300, 333), torch.randint(0, 255, (99_999,), dtype=torch.uint8)
    with Spill(tmp_path / "out.onnx") as spill:
        assert list(tmp_path.iterdir()) == []
        first, second = spill.keep([large, odd])
        assert torch.equal(first, large)
        assert torch.equal(second, odd)
        assert torch.equal(read(first), large)
        small = torch.ones(4)
        assert spill.keep([small])[0] is small
        scales = torch.rand(200, 400).to(torch.float8_e4m3fn)
        (kept,) = spill.keep([scales])
        assert torch.equal(kept.view(torch.uint8), scales.view(torch.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mapped", [True, False])
def test_casting_through_a_spill(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr("nvfp4_trt.loading.spill._CAST_AT_ONCE", 1000)
    torch.manual_seed(0)
    with Spill(tmp_path / "out.onnx") as spill:
        tensor = torch.randn(211, 317)
        (given,) = spill.keep([tensor]) if mapped else (tensor,)
        cast = spill.cast(given, torch.float16)
        assert region_of(cast) is not None
        assert torch.equal(cast, tensor.half())
        assert torch.equal(spill.cast(tensor.t(), torch.float16), tensor.t().half())


def test_a_module_is_cast_as_torch_casts_it(tmp_path):
    torch.manual_seed(0)
    with Spill(tmp_path / "out.onnx") as spill:
        module = nn.Sequential(nn.Embedding(600, 64), nn.Linear(64, 600), nn.BatchNorm1d(600))
        expected = {name: t.half() if t.is_floating_point() else t for name, t in module.state_dict().items()}
        module[0].weight = nn.Parameter(spill.keep([module[0].weight])[0])
        module[1].weight = module[0].weight
        expected["1.weight"] = expected["0.weight"]
        spill.cast_module(module, torch.float16)
        module.to(torch.float16)
        assert module[1].weight is module[0].weight
        assert region_of(module[0].weight) is not None
        assert all(torch.equal(t, expected[name]) for name, t in module.state_dict().items())


def test_a_spill_needs_a_folder_and_a_disk(tmp_path):
    with pytest.raises(OutputUnwritableError):
        Spill(tmp_path / "missing" / "out.onnx")
    with Spill(tmp_path / "out.onnx") as spill, Path("/dev/full").open("wb", buffering=0) as full:
        os.dup2(full.fileno(), spill._file.fileno())
        with pytest.raises(DiskFullError, match=r"no space left while writing .*out\.onnx"):
            spill.keep([torch.zeros(100_000)])
