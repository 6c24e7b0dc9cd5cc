"""Files that are no model, or none that can be used: each has an outcome of its own."""

import zipfile

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from nvfp4_trt.errors import FileMissingError, FileTruncatedError, NotAModelError, WrongKindError
from nvfp4_trt.loading import load_model


def raises(error, path, said):
    with pytest.raises(error, match=said) as caught:
        load_model(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_missing_file(here):
    assert raises(FileMissingError, "gone.pt", "does not exist").code == "file-missing"


def test_an_empty_file(here):
    (here / "e.pt").touch()
    assert raises(FileTruncatedError, "e.pt", r"is empty \(0 bytes\)").code == "file-truncated"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "pt2", "legacy"])
def test_a_truncated_file_at_any_point(here, net, suffix, share):
    if suffix == "pt2":
        torch.export.save(torch.export.export(net, (torch.ones(2, 8),)), "whole.pt2")
    elif suffix == "safetensors":
        save_file(net.state_dict(), "whole.safetensors")
    else:
        torch.save(net.state_dict(), f"whole.{suffix}", _use_new_zipfile_serialization=suffix == "pt")
    data = (here / f"whole.{suffix}").read_bytes()
    (here / f"cut.{suffix}").write_bytes(data[: max(2, int(len(data) * share))])
    assert raises(FileTruncatedError, f"cut.{suffix}", None).code == "file-truncated"


def test_torchscript(here, net):
    torch.jit.save(torch.jit.trace(net, torch.ones(2, 8)), "s.pt")
    error = raises(WrongKindError, "s.pt", "is a TorchScript archive")
    assert error.code == "wrong-kind"
    assert "torch.export.save" in error.hint


@pytest.mark.parametrize("name", ["m.onnx", "m.bin"])
def test_onnx(here, name):
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    onnx.save(onnx.helper.make_model(graph, producer_name="p"), name)
    assert raises(WrongKindError, name, "is an ONNX file").code == "wrong-kind"


def test_numpy(here):
    np.save("a.npy", np.ones(3))
    np.savez("a.npz", x=np.ones(3))
    assert "--inputs a.npy" in raises(WrongKindError, "a.npy", "is a NumPy array").hint
    assert "--inputs a.npz" in raises(WrongKindError, "a.npz", "is a NumPy archive").hint


@pytest.mark.parametrize(
    ("name", "data", "error", "said"),
    [
        ("a.gguf", b"GGUF\3\0\0\0", WrongKindError, "is a GGUF file"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", WrongKindError, "is an HDF5 file"),
        ("a.engine", b"ftrt\0\0", WrongKindError, "is a TensorRT engine"),
        (
            "a.pt",
            b"version https://git-lfs.github.com/spec/v1\noid x",
            NotAModelError,
            "is a Git LFS pointer",
        ),
        ("a.pt", "Grüße aus einer Textdatei\n".encode() * 300, NotAModelError, "is a text file"),
        ("a.pt", b"\xff\xfe\x00\x01" * 9, NotAModelError, "is none of the kinds"),
        ("a.pt", b"\x80\x02garbage", NotAModelError, "cannot be read"),
    ],
)
def test_other_files(here, name, data, error, said):
    (here / name).write_bytes(data)
    assert raises(error, name, said).code == error.code


def test_a_zip_of_something_else(here):
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    raises(NotAModelError, "a.zip", "is a zip file, but not one of PyTorch's")


def test_safetensors_with_a_broken_header(here):
    (here / "a.safetensors").write_bytes((4).to_bytes(8, "little") + b"{xx}" + b"\0" * 8)
    raises(NotAModelError, "a.safetensors", "its header is not readable")


def test_a_device_is_no_model():
    raises(NotAModelError, "/dev/null", "is not a regular file")


def test_what_a_file_is_does_not_depend_on_its_name(here, net, net_factory):
    torch.save(net.state_dict(), "weights.bin")
    save_file(net.state_dict(), "weights.dat")
    assert load_model("weights.bin", factory=net_factory).kind == "state-dict"
    assert load_model("weights.dat", factory=net_factory).kind == "safetensors"
