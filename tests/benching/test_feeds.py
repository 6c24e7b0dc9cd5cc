"""Inputs of an engine: read, drawn, held against what it takes."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from nvfp4_trt.benching.feeds import Port, check_feed, drawn_feed, fitted, read_feed
from nvfp4_trt.errors import FileMissingError, InputsMismatchError, InputsMissingError, WrongKindError

PORTS = {
    "ids": Port(np.dtype(np.int64), (-1, -1)),
    "x": Port(np.dtype(ml_dtypes.bfloat16), (-1, 64)),
    "mask": Port(np.dtype(bool), (-1, -1)),
}
RECORD = SimpleNamespace(
    profile={
        "ids": ((1, 1), (2, 16), (4, 32)),
        "x": ((1, 64), (2, 64), (4, 64)),
        "mask": ((1, 1), (2, 16), (4, 32)),
    }
)


def test_drawn_inputs_have_the_shapes_of_the_export_and_depend_on_the_seed_alone():
    feed = drawn_feed(PORTS, RECORD, 0)
    assert {name: array.shape for name, array in feed.items()} == {"ids": (2, 16), "x": (2, 64), "mask": (2, 16)}
    assert {name: array.dtype for name, array in feed.items()} == {name: p.dtype for name, p in PORTS.items()}
    assert set(np.unique(feed["ids"])) == {0, 1}
    again, other = drawn_feed(PORTS, RECORD, 0), drawn_feed(PORTS, RECORD, 1)
    assert all(again[name].tobytes() == array.tobytes() for name, array in feed.items())
    assert other["x"].tobytes() != feed["x"].tobytes()
    check_feed(feed, PORTS)


def test_fixed_shapes_need_no_record():
    assert drawn_feed({"x": Port(np.dtype(np.float32), (2, 8))}, None, 0)["x"].shape == (2, 8)
    with pytest.raises(InputsMissingError, match=r"the input ids \[any, any\] has dynamic dimensions"):
        drawn_feed(PORTS, None, 0)


def test_float32_is_rounded_where_an_engine_takes_bfloat16():
    given = {"x": np.array([[1.0, 1.001953125]], np.float32)}
    found = fitted(given, {"x": Port(np.dtype(ml_dtypes.bfloat16), (-1, 2))})["x"]
    assert found.dtype == ml_dtypes.bfloat16
    assert found.astype(np.float32).tolist() == [[1.0, 1.0]]
    with pytest.raises(InputsMismatchError, match="float64"):
        fitted({"x": given["x"].astype(np.float64)}, {"x": Port(np.dtype(ml_dtypes.bfloat16), (-1, 2))})


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ({"y": np.zeros((2, 8), np.float32)}, "the inputs are y"),
        ({"x": np.zeros((2, 9), np.float32)}, r"the input x is float32 \[2, 9\]"),
        ({"x": np.zeros((2, 8), np.float64)}, r"the input x is float64 \[2, 8\]"),
        ({"x": np.zeros((2, 8, 1), np.float32)}, r"\[2, 8, 1\]"),
    ],
)
def test_inputs_that_do_not_fit(feed, said):
    with pytest.raises(InputsMismatchError, match=said) as caught:
        check_feed(feed, {"x": Port(np.dtype(np.float32), (-1, 8))})
    assert caught.value.hint.startswith("the engine takes")


def test_files(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3), np.float16))
    assert read_feed(tmp_path / "x.npz")["x"].dtype == np.float16
    with pytest.raises(FileMissingError):
        read_feed(tmp_path / "y.npz")
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    for name in ("x.npy", "text.npz", "objects.npz"):
        with pytest.raises(WrongKindError, match=name):
            read_feed(tmp_path / name)
