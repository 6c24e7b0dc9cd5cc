"""What `check` foresees of a layer is what the audit of the engine finds, with the real builder."""

import onnx
import pytest
from checked_graphs import FORMS, REFUSED, SHAPES, together
from tiny_networks import rows_of

from nvfp4_trt.auditing import audit_engine
from nvfp4_trt.checking import check
from nvfp4_trt.errors import ParseFailedError
from nvfp4_trt.layers import FP8, FP8_WEIGHT_ONLY, NVFP4, WEIGHT_ONLY, Layer

pytestmark = pytest.mark.long

ALL = FORMS | SHAPES


@pytest.fixture(scope="module")
def models():
    return {name: make().made for name, make in ALL.items()}


@pytest.fixture(scope="module")
def alone(models, tmp_path_factory):
    """Return the verdict of each graph from a file of its own; of float ones it is about another file."""
    path = tmp_path_factory.mktemp("graphs") / "model.onnx"
    found = {}
    for name, model in models.items():
        onnx.save(model, path)
        checked = check(path)
        if checked.quantized or not name.startswith("plain"):
            (found[name],) = checked.layers
    return found


@pytest.fixture(scope="module")
def beside(models, tmp_path_factory):
    """Return the verdict of each graph from one file of all."""
    path = tmp_path_factory.mktemp("together") / "model.onnx"
    onnx.save(together(models), path)
    return {verdict.node.partition("|")[0]: verdict for verdict in check(path).layers}


@pytest.fixture(scope="module")
def rows(models, tmp_path_factory):
    """Return the layer record of one engine of all graphs."""
    return rows_of(tmp_path_factory.mktemp("engine"), together(models))


def realized(rows, names, requested=NVFP4):
    """Return what the audit says of each graph's product, which is the node `y`."""
    layers = [Layer(name, "Linear", (64, 64), requested) for name in names]
    audit = audit_engine(rows, layers, {f"{name}|y": [name] for name in names}, {}, {})
    return {layer.name: layer.realized for layer in audit.layers}


def test_there_are_enough_graphs_and_both_outcomes_among_them(alone, beside):
    assert len(alone) >= 70
    assert set(beside) == set(ALL)
    outcomes = [verdict.precision == NVFP4 for verdict in alone.values()]
    assert min(outcomes.count(True), outcomes.count(False)) >= 20


@pytest.mark.parametrize("way", ["alone", "beside"])
def test_fp4_is_foreseen_where_the_audit_finds_it_and_nowhere_else(request, way, rows):
    foreseen = {name: v.precision == NVFP4 for name, v in request.getfixturevalue(way).items()}
    assert foreseen == realized(rows, foreseen)


@pytest.mark.parametrize("precision", [WEIGHT_ONLY, FP8, FP8_WEIGHT_ONLY])
def test_other_codes_are_where_they_were_foreseen(beside, rows, precision):
    kept = [name for name, verdict in beside.items() if verdict.precision == precision]
    assert kept
    assert all(realized(rows, kept, precision).values())


@pytest.mark.parametrize("rule", REFUSED)
def test_a_refused_layer_is_refused(tmp_path, rule):
    model = REFUSED[rule]().made
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    (verdict,) = check(path).layers
    assert (verdict.precision, verdict.code) == ("refused", rule)
    with pytest.raises(ParseFailedError):
        rows_of(tmp_path, model)
