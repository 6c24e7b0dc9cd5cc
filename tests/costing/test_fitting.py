import pytest

from nvfp4_trt.costing.fitting import Sized, fill, reshaped, same_rank, settled, sized, transposed

HIDDEN = Sized((8, 128, 256), (-1, -1, 256))
HEADS = Sized((8, 4, 128, 64), (-1, 4, -1, 64))
STATISTICS = Sized((8, 128, 1), (-1, -1, 1))


def test_dimensions_that_change_with_the_inputs_are_dynamic():
    assert sized((8, 128, 256), (7, 127, 256)) == HIDDEN
    assert sized((1024, 256), (889, 256)) == Sized((1024, 256), (-1, 256))
    assert sized((3, 4), None) == Sized((3, 4), (-1, -1))


def test_fixed_and_dynamic_dimensions_must_agree_one_by_one():
    assert same_rank((-1, -1, 256), HIDDEN)
    assert not same_rank((-1, 128, 256), HIDDEN)
    assert not same_rank((-1, 256), HIDDEN)
    assert not same_rank((-1, -1, -1), HIDDEN)


@pytest.mark.parametrize(
    ("dims", "tensor", "fits"),
    [
        ((-1, 256), HIDDEN, True),
        ((-1, 4, 64), HIDDEN, True),  # 256 split
        ((-1, 64), HIDDEN, False),
        ((-1, -1, 64), HEADS, True),  # batch and heads are one dimension
        ((-1, 256), HEADS, False),  # 4 and 64 are no neighbours
        ((-1, 1), STATISTICS, True),
        ((-1, 1), HIDDEN, False),
        ((-1, -1), HIDDEN, False),  # says too little
        ((-1, -1, -1), HEADS, False),  # two dynamic dimensions for three
        ((-1, -1, -1), Sized((8, 4, 128, 128), (-1, 4, -1, -1)), True),
        ((-1, 8), Sized((8, 128), (-1, -1)), False),  # 8 is the batch, by chance
    ],
)
def test_reshapes(dims, tensor, fits):
    assert reshaped(dims, tensor) is fits


def test_transpositions():
    assert transposed((-1, 64, -1), HEADS)
    assert not reshaped((-1, 64, -1), HEADS)
    assert not transposed((-1, 32, -1), HEADS)
    assert not transposed((-1, 128, -1), HEADS)


def test_a_profile_may_fix_a_dynamic_dimension():
    assert not same_rank((-1, 128, 256), HIDDEN)
    assert same_rank((-1, 128, 256), settled((-1, 128, 256), HIDDEN))
    assert reshaped((-1, 128, 64), settled((-1, 128, 64), HEADS))


def test_one_open_dimension_is_filled():
    assert fill((-1, 256), 1024) == (4, 256)
    assert fill((-1, 256), 1000) is None
    assert fill((-1, -1), 4) is None
