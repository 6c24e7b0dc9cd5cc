import dataclasses
import math

import numpy as np
import pytest
import torch
from mixtures import encoder
from torch import nn

import nvfp4_trt
from nvfp4_trt.errors import BudgetUnmetError, InputSpecError, ModelRunError
from nvfp4_trt.mixing import parse_budget, recipe_text, write_plot
from nvfp4_trt.recipe import RECIPES, WeightMethod, as_mapping, load_recipe


def sqnr_db(expected, got):
    return 10 * math.log10(expected.double().square().sum() / (expected - got).double().square().sum())


def outputs(module, batches):
    with torch.no_grad():
        return torch.cat([module(**batch) for batch in batches])


@pytest.fixture(scope="module")
def model():
    return encoder()


@pytest.fixture(scope="module")
def exact(model):
    module, batches = model
    return nvfp4_trt.sensitivity(module, inputs=batches, method="exact")


def test_damage_is_that_of_quantizing_one_layer(model, exact):
    module, batches = model
    expected = outputs(module, batches)
    assert len(exact.layers) == 12
    for layer in exact.layers[::5]:
        alone = nvfp4_trt.quantize(module, only=[layer.name])
        assert layer.sqnr_db == pytest.approx(sqnr_db(expected, outputs(alone, batches)), abs=1e-6)
    assert exact.sqnr_db == pytest.approx(
        sqnr_db(expected, outputs(nvfp4_trt.quantize(module), batches)), abs=1e-6
    )


def test_weight_methods_look_at_the_batches():
    """Layers are packed one after another as in the whole model; the budget's recipe keeps the method."""
    module, batches = encoder(layers=1)
    recipe = load_recipe("w4a16").with_method(WeightMethod.GPTQ_MSE)
    whole = nvfp4_trt.quantize(module, recipe, inputs=batches)
    expected = outputs(module, batches)
    alone = sqnr_db(expected, outputs(whole, batches))
    budget = f"sqnr={alone + 1:.3f}"
    found = nvfp4_trt.sensitivity(module, inputs=batches, recipe=recipe, budget=budget, keep="model")
    assert found.sqnr_db == pytest.approx(alone, abs=1e-6)
    assert found.found.recipe.weights.method is WeightMethod.GPTQ_MSE
    kept = nvfp4_trt.quantize(module, found.found.recipe, inputs=batches)
    assert sqnr_db(expected, outputs(kept, batches)) == pytest.approx(found.found.value, abs=1e-6)


def test_the_worst_is_first_and_shares_add_up(exact):
    damage = [layer.sqnr_db for layer in exact.layers]
    assert damage == sorted(damage)
    assert sum(layer.share for layer in exact.layers) == pytest.approx(1)
    assert exact.layers[0].share > 1 / 12


def test_the_estimate_ranks_as_the_measurement_does(model, exact):
    module, batches = model
    estimate = nvfp4_trt.sensitivity(module, inputs=batches, method="estimate")
    places = {layer.name: place for place, layer in enumerate(exact.layers)}
    ranks = [places[layer.name] for layer in estimate.layers]
    assert np.corrcoef(ranks, range(12))[0, 1] > 0.9
    measured = {layer.name: layer.sqnr_db for layer in exact.layers}
    assert max(abs(measured[layer.name] - layer.sqnr_db) for layer in estimate.layers) < 3
    again = nvfp4_trt.sensitivity(module, inputs=batches, method="estimate")
    assert again.layers == estimate.layers


def test_a_model_without_a_derivative_has_no_estimate():
    class Sign(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(32, 32)

        def forward(self, x):
            with torch.no_grad():
                return self.fc(x)

    inputs = [{"x": torch.randn(2, 32)}]
    with pytest.raises(ModelRunError, match="derivative"):
        nvfp4_trt.sensitivity(Sign(), inputs=inputs, method="estimate")
    assert len(nvfp4_trt.sensitivity(Sign(), inputs=inputs).layers) == 1


@pytest.mark.parametrize(
    ("recipe", "keep", "key"),
    [("w4a4-dynamic-token", "fp8", "fp8"), ("w4a4-static", "fp8", "fp8"), ("w4a4-static", "model", "exclude")],
)
def test_a_recipe_that_meets_a_budget(tmp_path, model, recipe, keep, key):
    module, batches = model
    file = tmp_path / "found.yaml"
    said = []
    result = nvfp4_trt.sensitivity(
        module, inputs=batches, recipe=recipe, budget="sqnr=22", keep=keep, output=file, progress=said.append
    )
    found = result.found
    assert 0 < len(found.kept) < 11
    loaded = load_recipe(file)
    assert as_mapping(loaded) == as_mapping(found.recipe)
    assert set(getattr(loaded, key)) == set(found.kept)
    quantized = nvfp4_trt.quantize(module, loaded, inputs=batches)
    value = sqnr_db(outputs(module, batches), outputs(quantized, batches))
    assert value >= 22
    assert value == pytest.approx(found.value, abs=1e-6)
    for name in found.kept[:2]:
        fewer = loaded.model_copy(update={key: tuple(set(found.kept) - {name})})
        quantized = nvfp4_trt.quantize(module, fewer, inputs=batches)
        assert sqnr_db(outputs(module, batches), outputs(quantized, batches)) < 22
    assert said[-1].startswith("quantizing with the recipe found, ")
    text = file.read_text()
    assert "# Found for the budget sqnr=22" in text
    assert all(f"- {name}  # " in text for name in found.kept)
    again = nvfp4_trt.sensitivity(module, inputs=batches, recipe=recipe, budget="sqnr=22", keep=keep)
    assert recipe_text(again) == text


def test_a_budget_of_a_function(model):
    module, batches = model
    result = nvfp4_trt.sensitivity(module, inputs=batches, budget=parse_budget("metric:mixtures:largest>=99%"))
    assert result.found.value >= 0.99


def test_a_budget_that_cannot_be_met_says_how_close_it_came(model, exact, tmp_path):
    module, batches = model
    with pytest.raises(BudgetUnmetError, match=rf"the best was {exact.layers[-1].sqnr_db:.2f} dB") as caught:
        nvfp4_trt.sensitivity(
            module, inputs=batches, budget="sqnr=60", keep="model", output=tmp_path / "none.yaml"
        )
    assert caught.value.exit_status == 1
    assert not list(tmp_path.iterdir())


def test_layers_that_the_recipe_makes_fp8_stay_fp8(model):
    module, batches = model
    recipe = RECIPES["w4a4-dynamic-token"].model_copy(update={"fp8": ("*.linear1",)})
    result = nvfp4_trt.sensitivity(module, inputs=batches, recipe=recipe, budget="sqnr=26")
    assert len(result.layers) == 10
    assert not any("linear1" in layer.name for layer in result.layers)
    together = nvfp4_trt.quantize(module, recipe)
    assert result.sqnr_db == pytest.approx(sqnr_db(outputs(module, batches), outputs(together, batches)), abs=1e-6)
    found = result.found.recipe
    assert found.fp8 == ("*.linear1", *(name for name in found.fp8 if name in result.found.kept))
    quantized = nvfp4_trt.quantize(module, found)
    assert sqnr_db(outputs(module, batches), outputs(quantized, batches)) >= 26


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"output": "x.yaml"}, "without a budget"),
        ({"output": "x.txt", "budget": "sqnr=9"}, "no .yaml file"),
        ({"plot": "x.pdf"}, "neither .png nor .svg"),
    ],
)
def test_outputs_are_refused_before_the_work(model, asked, message):
    with pytest.raises(InputSpecError, match=message):
        nvfp4_trt.sensitivity(model[0], inputs=model[1], **asked)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_plot_has_the_same_bytes_each_time(exact, tmp_path, kind):
    files = [tmp_path / f"{number}.{kind}" for number in (1, 2)]
    for file in files:
        write_plot(exact, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    if kind == "svg":
        empty = dataclasses.replace(exact, layers=exact.layers[:1])
        write_plot(empty, files[1])
        assert files[0].read_bytes() != files[1].read_bytes()
