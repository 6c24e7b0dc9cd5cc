import math

import mixtures
import pytest

from nvfp4_trt.errors import FactoryImportError, InputSpecError, MetricFailedError
from nvfp4_trt.mixing import parse_budget


@pytest.mark.parametrize(
    ("text", "limit", "least", "relative"),
    [
        ("sqnr=18", 18, True, False),
        ("sqnr>=-2.5", -2.5, True, False),
        ("metric:mixtures:largest>=.5", 0.5, True, False),
        ("metric:mixtures:largest >= 99%", 0.99, True, True),
        ("metric:mixtures:largest<=102.5%", 1.025, False, True),
        ("metric:mixtures:largest<=1e-3", 1e-3, False, False),
    ],
)
def test_what_a_budget_says(text, limit, least, relative):
    budget = parse_budget(text)
    assert (budget.limit, budget.least, budget.relative) == (limit, least, relative)
    assert (budget.metric is mixtures.largest) == text.startswith("metric")
    assert budget.meets(limit)
    assert budget.meets(limit + 1) == least
    assert not budget.meets(math.nan)


@pytest.mark.parametrize(
    "text",
    ["", "18", "sqnr", "sqnr=", "sqnr=18%", "sqnr<=18", "sqnr=18 dB", "metric:mixtures:largest", "metric:>=1"],
)
def test_what_is_no_budget(text):
    with pytest.raises(InputSpecError, match="--budget"):
        parse_budget(text)


def test_a_function_that_is_not_there():
    with pytest.raises(FactoryImportError, match="mixtures has no 'missing'"):
        parse_budget("metric:mixtures:missing>=1")


def test_a_share_is_of_the_float_models_value():
    module, _ = mixtures.encoder(1)
    budget = parse_budget("metric:mixtures:largest>=99%")
    of_float = budget.of_float(module)
    assert of_float == pytest.approx(mixtures.largest(module).item())
    assert budget.value(module, None, of_float) == 1.0
    assert budget.value(module, None, of_float * 2) == 0.5
    absolute = parse_budget("metric:mixtures:largest>=99")
    assert absolute.value(module, None, absolute.of_float(module)) == of_float


@pytest.mark.parametrize("name", ["broken", "nothing"])
def test_a_function_that_fails_on_the_float_model(name):
    with pytest.raises(MetricFailedError, match=f"mixtures:{name}"):
        parse_budget(f"metric:mixtures:{name}>=1").of_float(mixtures.encoder(1)[0])
