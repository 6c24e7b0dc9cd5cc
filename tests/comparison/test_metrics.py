import json
import math

import numpy as np
import pytest

from nvfp4_trt.comparison import SQNR_LIMIT, Comparison
from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.errors import BelowThresholdError


def measured(*pairs):
    accumulator = Accumulator("y")
    for reference, model in pairs:
        accumulator.add(np.asarray(reference, np.float32), np.asarray(model, np.float32))
    return accumulator.metrics()


def compared(*pairs):
    return Comparison((measured(*pairs),), len(pairs), "m.pt", "m.onnx")


def test_by_hand():
    found = measured(([3.0, 4.0], [3.0, 3.0]))
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 1))
    assert found.cosine == pytest.approx(21 / (5 * math.sqrt(18)))
    assert found.max_abs_error == 1.0


def test_batches_add_up_and_are_not_averaged():
    large, small = ([100.0, 0.0], [99.0, 0.0]), ([0.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    found = measured(large, small)
    assert found.sqnr_db == pytest.approx(10 * math.log10(10001 / 2))
    assert found == measured(([100, 0, 0, 1, 0], [99, 0, 0, 0, 0]))


def test_long_outputs_are_summed_in_pieces():
    reference = np.arange(3_000_000, dtype=np.float32)
    found = measured((reference, reference + 1))
    signal = float((reference.astype(np.float64) ** 2).sum())
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / 3_000_000))
    assert found.max_abs_error == 1.0


@pytest.mark.parametrize("values", [[1.0, -2.0], [0.0, 0.0], [], [math.inf, 1.0], [-math.inf]])
def test_equal_outputs(values):
    found = compared((values, values))
    assert found.outputs[0].sqnr_db == SQNR_LIMIT
    assert (found.outputs[0].cosine, found.outputs[0].max_abs_error) == (1.0, 0.0)
    found.check(min_sqnr=100, min_cosine=1.0, max_abs_error=0.0)


def test_a_reference_of_zeros():
    found = measured(([0.0, 0.0], [0.0, 1e-3]))
    assert (found.sqnr_db, found.cosine) == (-SQNR_LIMIT, 0.0)


def test_the_largest_numbers_do_not_overflow():
    found = measured(([3e38, -3e38], [3e38, 3e38]))
    assert found.sqnr_db == pytest.approx(10 * math.log10(0.5))
    assert found.max_abs_error == pytest.approx(6e38)


@pytest.mark.parametrize(
    ("reference", "model"),
    [
        ([1.0, math.nan], [1.0, 2.0]),
        ([1.0, 2.0], [1.0, math.nan]),
        ([math.nan], [math.nan]),
        ([1.0, math.inf], [1.0, 5.0]),
        ([1.0, math.inf], [1.0, -math.inf]),
    ],
)
def test_not_a_number_fails_without_any_threshold(reference, model):
    found = compared(([1.0], [1.0]), (reference, model))
    assert all(math.isnan(v) for v in (found.outputs[0].sqnr_db, found.outputs[0].cosine))
    with pytest.raises(BelowThresholdError, match="NaN"):
        found.check()
    row = json.loads(json.dumps(found.as_dict(), allow_nan=False))["outputs"][0]
    assert row == {"name": "y", "sqnr_db": None, "cosine": None, "max_abs_error": None}


@pytest.mark.parametrize(
    ("kept", "broken", "metric"),
    [
        ({"min_sqnr": 13.9}, {"min_sqnr": 14.5}, "SQNR"),
        ({"min_cosine": 0.98}, {"min_cosine": 0.995}, "cosine"),
        ({"max_abs_error": 1.0}, {"max_abs_error": 0.99}, "largest error"),
    ],
)
def test_thresholds(kept, broken, metric):
    found = compared(([3.0, 4.0], [3.0, 3.0]))
    found.check(**kept)
    with pytest.raises(BelowThresholdError) as caught:
        found.check(**broken)
    assert metric in caught.value.message
    assert " y " in caught.value.message
    assert f"{next(iter(broken.values())):g}" in caught.value.message
    assert caught.value.exit_status == 1


def test_as_dict_is_strict_json():
    found = compared(([1.0, 2.0], [1.0, 2.0]))
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == {
        "reference": "m.pt",
        "model": "m.onnx",
        "batches": 1,
        "outputs": [{"name": "y", "sqnr_db": 300.0, "cosine": 1.0, "max_abs_error": 0.0}],
        "dtypes": {},
    }
