"""From a budget to an engine: its layers are in the precisions that the recipe found says."""

import pytest
from mixtures import encoder

import nvfp4_trt
from nvfp4_trt.loading import load_model
from nvfp4_trt.recipe import RECIPES, load_recipe
from samples.minilm import inputs

pytestmark = pytest.mark.long


def audited(module, recipe, batches, folder):
    """Export with a recipe, build, and return the layers by what the engine's record shows them to be."""
    exported = nvfp4_trt.export(module, folder / "a.onnx", recipe=recipe, inputs=batches, dtype="float16")
    audit = nvfp4_trt.build(exported, folder / "a.engine", backend="tensorrt_rtx", optimize="off").audit
    assert all(layer.realized for layer in audit.layers)
    return {
        precision: {layer.name for layer in audit.layers if layer.requested == precision}
        for precision in ("nvfp4", "fp8")
    }


@pytest.mark.parametrize("keep", ["fp8", "model"])
def test_the_audit_agrees_with_the_recipe(tmp_path, keep):
    module, batches = encoder(1)
    file = tmp_path / "found.yaml"
    result = nvfp4_trt.sensitivity(module, inputs=batches, budget="sqnr=29", keep=keep, output=file)
    names, kept = {layer.name for layer in result.layers}, set(result.found.kept)
    assert 0 < len(kept) < len(names)
    found = audited(module, file, batches[:1], tmp_path)
    assert found == {"nvfp4": names - kept, "fp8": kept if keep == "fp8" else set()}


def test_the_sentence_encoder_meets_a_folk_rules_budget_with_fewer_layers(tmp_path):
    """The rule: the first and the last block. What it comes to is the budget."""
    module, batches = load_model(inputs.model_folder()).module, list(inputs.calibration())[:1]
    folk = RECIPES["w4a4-dynamic-token"].model_copy(update={"fp8": ("encoder.layer.0.*", "encoder.layer.5.*")})
    by_rule = nvfp4_trt.sensitivity(module, inputs=batches, recipe=folk, method="estimate")
    file = tmp_path / "found.yaml"
    result = nvfp4_trt.sensitivity(
        module, inputs=batches, method="estimate", budget=f"sqnr={by_rule.sqnr_db}", output=file
    )
    assert result.found.value >= by_rule.sqnr_db
    assert len(result.found.kept) < 12
    found = audited(module, load_recipe(file), batches, tmp_path)
    assert found["fp8"] == set(result.found.kept)
    assert len(found["nvfp4"]) + len(found["fp8"]) == len(result.layers) == 37
