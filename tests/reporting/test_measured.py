"""Errors and activations on the page, against the modules that they are of."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import nvfp4_trt
from nvfp4_trt import format as fmt
from nvfp4_trt.errors import InputsMissingError, WrongKindError
from nvfp4_trt.format.constants import E2M1_VALUES
from nvfp4_trt.reporting.activations import activation_distributions
from nvfp4_trt.reporting.data import GRID


@pytest.fixture(scope="module")
def measured(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "page.html"
    return nvfp4_trt.report(made.onnx, path, reference=made.module, inputs=[made.batch])


def test_errors_are_those_of_compare(measured, made):
    report = measured.report
    assert report.missing == ()
    compared = nvfp4_trt.compare(made.onnx, made.module, inputs=[made.batch], per_layer=True)
    assert [output.sqnr_db for output in report.accuracy] == [output.sqnr_db for output in compared.outputs]
    rows = {layer.name: layer.backends["onnxruntime"] for layer in compared.layers.layers}
    found = {layer.name: layer.error for layer in report.layers}
    assert set(found) == set(rows)
    for name, error in found.items():
        assert (error.sqnr_db, error.own_sqnr_db) == (rows[name].output.sqnr_db, rows[name].own.sqnr_db)


def test_codes_and_scales_are_those_of_the_format(measured, made):
    """What enters query is the normed input, which no earlier layer has touched."""
    entered = made.module.norm_in(made.batch["x"]).detach()
    scale = fmt.per_token_scale(entered)
    packed, block_scale = fmt.quantize(entered, scale)
    layers = {layer.name: layer for layer in measured.report.layers}
    values = [E2M1_VALUES[code] + 0.0 for byte in packed.flatten().tolist() for code in (byte & 15, byte >> 4)]
    ours = np.array(layers["query"].activations.counts)
    theirs = np.array([values.count(value) for value in GRID])
    assert ours.sum() == theirs.sum()
    assert np.abs(ours - theirs).sum() <= 4  # a LayerNorm rounds otherwise on ONNX Runtime
    run = layers["query"].activation_scales
    assert run.count == entered[..., 0].numel()
    assert run.median == pytest.approx(float(scale.median()), rel=0.05)
    assert (run.low, run.high) == pytest.approx((float(scale.min()), float(scale.max())), rel=1e-5)
    assert layers["query"].activation_blocks.high == float(block_scale.float().max())


def test_layers_that_read_one_activation_share_it(measured):
    layers = {layer.name: layer for layer in measured.report.layers}
    assert all(layers[a].activations == layers[b].activations for a, b in pairwise(("query", "key", "value")))
    assert layers["out"].activations != layers["query"].activations


def test_batches_add_up(made):
    one = activation_distributions(made.onnx, [made.batch])
    two = activation_distributions(made.onnx, [made.batch, made.batch])
    for name, (codes, blocks, run) in one.items():
        assert [2 * count for count in codes.counts] == list(two[name][0].counts)
        assert [2 * count for count in blocks.counts] == list(two[name][1].counts)
        assert two[name][2].count == 2 * run.count


@pytest.mark.parametrize("recipe", ["w4a16", "w4a4-static", "w4a4-single-level"])
def test_other_recipes_and_bf16(portable, recipe):
    made = portable("mlp", recipe, "bfloat16")
    found = activation_distributions(made.path, [made.batch])
    if recipe == "w4a16":
        assert found == {}
        return
    assert set(found) == {"fc1", "fc3"}
    assert all(run is None for *_, run in found.values())  # no scale is computed
    assert sum(found["fc1"][0].counts) == made.batch["x"].numel()


def test_what_is_of_no_use_is_refused(made, page, tmp_path):
    path = tmp_path / "page.html"
    with pytest.raises(WrongKindError, match="no model to run on them"):
        nvfp4_trt.report(made.onnx, path, inputs=[made.batch])
    with pytest.raises(InputsMissingError):
        nvfp4_trt.report(made.onnx, path, reference=made.module)
    with pytest.raises(WrongKindError, match="is a report already"):
        nvfp4_trt.report(page.path, path, reference=made.module, inputs=[made.batch])
    with pytest.raises(WrongKindError, match="is a report already"):
        nvfp4_trt.report(page.path, path, engine=made.engine)
    with pytest.raises(WrongKindError, match="no other model"):
        nvfp4_trt.report(made.onnx, path, other_engine=made.engine)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_shown_and_stops_nothing(made, tmp_path):
    broken = {"x": torch.full_like(made.batch["x"], float("nan"))}
    found = nvfp4_trt.report(made.onnx, tmp_path / "page.html", reference=made.module, inputs=[broken])
    assert {output.sqnr_db for output in found.report.accuracy} == {None}
    assert "NaN" in (tmp_path / "page.html").read_text("utf-8")
