"""Headers of safetensors files, good and bad."""

import json

import pytest
import torch
from safetensors.torch import save_file

from nvfp4_trt.errors import FileTruncatedError, NotAModelError
from nvfp4_trt.loading.safetensors_files import DTYPES, map_tensors, read_header

KINDS = [dtype for dtype in DTYPES.values() if dtype is not torch.float8_e8m0fnu]


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (250, 300)])
def test_what_the_library_writes_is_read(tmp_path, dtype, shape):
    raw = torch.randint(0, 2, shape).to(dtype)
    save_file({"t": raw, "u": torch.arange(7, dtype=torch.uint8)}, tmp_path / "w", metadata={"format": "pt"})
    header = read_header(tmp_path / "w")
    assert header.metadata == {"format": "pt"}
    assert (header.tensors["t"].dtype, header.tensors["t"].shape) == (dtype, shape)
    found = map_tensors([tmp_path / "w"])
    assert found["t"].dtype == dtype
    assert found["t"].shape == shape
    assert found["t"].reshape(-1).view(torch.uint8).tolist() == raw.reshape(-1).view(torch.uint8).tolist()
    assert found["u"].tolist() == list(range(7))


def write(path, header, data=b"\0" * 16):
    raw = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)


def entry(begin=0, end=16, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


BROKEN = {
    "another dtype": ({"t": entry(dtype="Q4")}, "t has the dtype Q4, which torch has not"),
    "another length": ({"t": entry(end=12)}, r"t \[4\] F32 cannot be the bytes 0 to 12"),
    "a negative shape": ({"t": entry(shape=(-2, -2))}, "cannot be the bytes"),
    "two in one place": ({"t": entry(), "u": entry(begin=8, end=16, shape=(2,))}, "the bytes of u are another"),
    "no offsets": ({"t": {"dtype": "F32", "shape": [4]}}, "not readable"),
    "no json": (b"{no", "not readable"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_header_that_is_wrong(tmp_path, case):
    header, said = BROKEN[case]
    write(tmp_path / "w", header)
    with pytest.raises(NotAModelError, match=said):
        read_header(tmp_path / "w")


def test_a_file_that_ends_within_a_tensor_names_it(tmp_path):
    write(tmp_path / "w", {"t": entry(), "u": entry(begin=16, end=32), "v": entry(begin=32, end=48)}, b"\0" * 20)
    with pytest.raises(FileTruncatedError, match="ends within the tensor u: it holds"):
        read_header(tmp_path / "w")


def test_two_files_with_one_name(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, {"t": entry()})
    with pytest.raises(NotAModelError, match="another file beside it holds 't' too"):
        map_tensors([tmp_path / "a", tmp_path / "b"])
