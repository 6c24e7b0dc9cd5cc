"""Buckets as users write them."""

import onnx_ir as ir
import pytest

from nvfp4_trt.errors import BucketsInvalidError
from nvfp4_trt.serving import Bucket, dynamic_dims, parse_buckets

DIMS = ("batch", "sequence")
TWO = (Bucket((("batch", 1), ("sequence", 64))), Bucket((("batch", 8), ("sequence", 128))))


@pytest.mark.parametrize(
    "given",
    [
        "1x64,8x128",
        " 1x64, 8x128",
        ["1x64,8x128"],
        ("1x64", "8x128"),
        ["1x64", "sequence=128,batch=8"],
        ["batch=1,sequence=64", "batch=8, sequence=128"],
        [{"batch": 1, "sequence": 64}, {"sequence": 128, "batch": 8}],
    ],
)
def test_every_way_to_write_two(given):
    assert parse_buckets(given, DIMS) == TWO


def test_one_dimension():
    assert [bucket.name for bucket in parse_buckets("8,1,4", ["batch"])] == ["8", "1", "4"]


def test_what_a_bucket_says():
    assert (TWO[1].name, TWO[1].volume) == ("8x128", 1024)
    assert TWO[1].specs == ("batch=8", "sequence=128")
    assert TWO[1].as_dict() == {"batch": 8, "sequence": 128}


WRONG = [
    ("", "'' is no list"),
    ("1x64,", "is no list"),
    ("1x", "is no list"),
    ("axb", "is no list"),
    ("-1x64", "is no list"),
    ("1.5x64", "is no list"),
    ("1x64;8x128", "is no list"),
    ("batch=1,64", "is no list"),
    ([], "names no bucket"),
    ("64", "64 has 1 extents, and the model 2 dynamic dimensions: batch, sequence"),
    ("1x64,1x2x3", "1x2x3 has 3 extents"),
    ("0x64", "0x64 has an extent that is not from 1"),
    ("1x2147483648", "1x2147483648 has an extent"),
    ([{"batch": 1, "sequence": "64"}], "1x64 has an extent"),
    ("1x64,1x128,1x64", "has 1x64 twice"),
    (["1x64", "batch=1,sequence=64"], "has 1x64 twice"),
    ("batch=1,batch=2", "names a dimension twice"),
    ("batch=1", "gives no extent of 'sequence'"),
    ("batch=1,sequence=64,width=3", "no dynamic dimension 'width'"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_refused(given, said):
    with pytest.raises(BucketsInvalidError, match=said.replace("[", r"\[")) as caught:
        parse_buckets(given, DIMS)
    assert caught.value.hint


def test_a_model_without_dynamic_dimensions():
    with pytest.raises(BucketsInvalidError, match="has no dynamic dimension"):
        parse_buckets("1x64", ())


def test_dimensions_come_in_the_order_of_their_first_appearance():
    def value(*shape):
        return ir.Value(name="x", shape=ir.Shape(shape))

    assert dynamic_dims([value("sequence", 3, "batch"), value("batch", "width")]) == ("sequence", "batch", "width")
    assert dynamic_dims([value(2, 3)]) == ()
