import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.errors import BudgetUnmetError
from nvfp4_trt.mixing.budget import Budget
from nvfp4_trt.mixing.search import fewest_kept


def sqnr_of(noise):
    """Return the evaluation of a model in which noise powers add up."""

    def evaluate(kept):
        total = math.fsum(power for name, power in noise.items() if name not in kept)
        return -10 * math.log10(total)

    return evaluate


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=40),
    st.floats(0, 60),
)
def test_what_is_kept_meets_the_budget_and_nothing_of_it_can_be_let_go(powers, limit):
    noise = {f"layer{i}": power for i, power in enumerate(powers)}
    order = sorted(noise, key=noise.get, reverse=True)[:-1]
    evaluate, budget = sqnr_of(noise), Budget("sqnr", limit)
    if evaluate(order) < limit:
        with pytest.raises(BudgetUnmetError, match=f"the best was {evaluate(order):.2f} dB"):
            fewest_kept(order, budget, evaluate)
        return
    kept = fewest_kept(order, budget, evaluate)
    assert evaluate(kept.names) >= limit
    # Where noise adds up, no smaller set meets it: not even that of the most damaging layers.
    assert not kept.names or evaluate(order[: len(kept.names) - 1]) < limit
    assert kept == fewest_kept(order, budget, evaluate)


def test_a_layer_that_its_rank_put_in_front_for_nothing_is_let_go():
    """Damage alone may mislead: here the first layer's never reaches what the budget looks at."""

    def evaluate(kept):
        return 10.0 + 5 * len({"b", "c"} & set(kept))

    kept = fewest_kept(["a", "b", "c", "d"], Budget("sqnr", 20.0), evaluate)
    assert kept.names == ("b", "c")


def test_no_layer_is_kept_where_none_has_to_be():
    assert fewest_kept(["a", "b"], Budget("sqnr", 1.0), lambda _: 2.0).names == ()


def test_nan_does_not_meet_a_budget_and_is_not_the_best():
    with pytest.raises(BudgetUnmetError, match=r"the best was 3\.00 dB"):
        fewest_kept(["a", "b"], Budget("sqnr", 9.0), lambda kept: math.nan if kept else 3.0)
