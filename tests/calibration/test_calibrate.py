"""`nvfp4_trt.calibrate`: one value in any order, saved and read, kept in a state, given to a quantization."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import nvfp4_trt
from nvfp4_trt import Calibration, calibrate, quantize
from nvfp4_trt.calibration import input_amaxes
from nvfp4_trt.errors import (
    CalibrationInvalidError,
    CalibrationMismatchError,
    FileMissingError,
    InputsMissingError,
    NonfiniteCalibrationError,
    OutputUnwritableError,
    RecipeInvalidError,
    WrongKindError,
)
from nvfp4_trt.recipe import RECIPES, ObserverName, Recipe


def model(seed=0, wide=64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, 32), nn.Linear(32, 1)).eval()


def rows(count=24):
    return (
        torch.randn(count, 64, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, 1, count)[:, None]
    )


def exact_model():
    """A model whose every product and sum is exact in fp32, so that a row is the same in any batch."""
    module = model()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 64).round() / 16)
    return module


def exact_batches(size=6):
    return [{"input": part} for part in ((rows() * 8).round() / 8).split(size)]


def batches(size=6):
    return [{"input": part} for part in rows().split(size)]


def static(observer, **parameters):
    return Recipe(name=observer, activations={"scaling": "static", "observer": observer, **parameters})


@pytest.fixture(scope="module")
def made():
    return calibrate(model(), inputs=batches())


class Counted:
    """Batches that know how many were taken, and may be broken off."""

    def __init__(self, until=None):
        self.taken, self.until = 0, until

    def __iter__(self):
        for batch in batches():
            if self.taken == self.until:
                raise KeyboardInterrupt
            self.taken += 1
            yield batch


@pytest.mark.parametrize("observer", ObserverName)
def test_neither_order_nor_size_of_batches_matters(observer):
    recipe = static(observer)
    found = calibrate(exact_model(), recipe, inputs=exact_batches())
    for other in (exact_batches()[::-1], exact_batches(1), exact_batches(24), iter(exact_batches(5))):
        assert calibrate(exact_model(), recipe, inputs=other).model_dump_json() == found.model_dump_json()
    amaxes = input_amaxes(exact_model(), ("0", "2"), exact_batches(), recipe)
    assert {layer.name: layer.amax for layer in found.layers} == amaxes


def test_what_it_says(made):
    x = rows()
    first, second = made.layers
    assert (first.name, second.name) == ("0", "2")
    assert first.amax == first.largest == float(x.abs().max())
    assert (first.blocks, first.saturated, first.subnormal) == (24 * 4, 0, 0)
    assert first.median == pytest.approx(float(x.abs().reshape(-1, 16).amax(1).median()), rel=0.1)
    assert made.recipe == RECIPES["w4a4-static"]
    assert made.recipe.activations.observer == "max"


def test_what_saturates_and_what_loses_bits_is_counted():
    x = torch.full((10, 64), 1.0)
    x[0], x[1] = 100.0, 1e-6
    low = calibrate(model(), static("percentile", percentile=80), inputs=[{"input": x}]).layers[0]
    assert (low.blocks, low.saturated, low.subnormal) == (40, 4, 4)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_saved_and_read(made, tmp_path, suffix):
    path = tmp_path / f"scales.{suffix}"
    made.save(path)
    assert Calibration.load(path) == made
    before = path.read_bytes()
    Calibration.load(path).save(path)
    assert path.read_bytes() == before
    if suffix == "safetensors":
        with safe_open(path, framework="pt") as file:
            assert float(file.get_tensor("2.input_amax")) == made.layers[1].amax


@pytest.mark.parametrize("observer", ["max", "headroom"])
def test_a_quantization_takes_it(tmp_path, observer):
    recipe = static(observer)
    found = calibrate(model(), recipe, inputs=batches())
    found.save(tmp_path / "scales.json")
    expected = quantize(model(), recipe, inputs=batches()).module
    for calibration in (found, tmp_path / "scales.json", str(tmp_path / "scales.json")):
        got = quantize(model(), calibration=calibration)
        assert got.recipe == recipe
        assert torch.equal(got.module(rows()), expected(rows()))


def test_an_export_takes_it_and_says_so(tmp_path):
    recipe = static("headroom", ratio=1000.0)
    found = calibrate(model(), recipe, inputs=batches())
    artifact = nvfp4_trt.export(model(), tmp_path / "a.onnx", inputs=batches()[:1], calibration=found)
    again = nvfp4_trt.export(model(), tmp_path / "b.onnx", inputs=batches(), recipe=recipe)
    assert artifact.path.read_bytes() == again.path.read_bytes()
    assert artifact.metadata.recipe["activations"] == {
        "scaling": "static",
        "observer": "headroom",
        "percentile": 99.99,
        "anchor": 1.0,
        "ratio": 1000.0,
    }


def test_the_model_stays_as_it_was():
    module = model()
    module.train()
    module.requires_grad_(True)
    calibrate(module, inputs=batches(), dtype="bfloat16")
    assert module.training
    assert module[0].weight.dtype == torch.float32
    assert not any(child._forward_pre_hooks for child in module.modules())


def test_progress_is_told():
    told = []
    calibrate(model(), inputs=batches(), progress=told.append)
    assert told == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("format"), "is not a calibration: it does not say"),
        (lambda d: d.update(version=2), "it is of version 2, and this is 1"),
        (lambda d: d["layers"][1].update(amax=float("nan")), "layers.2.amax: Input should be"),
        (lambda d: d["layers"][0].update(amax=-1.0), "layers.0.amax: Input should be"),
        (lambda d: d["layers"][0].pop("amax"), "layers.0.amax: Field required"),
        (lambda d: d["layers"].append(d["layers"][0]), "the layer 0 is there twice"),
        (lambda d: d["recipe"].update(activations={"scaling": "dynamic"}), "no static scaling"),
        (lambda d: d.update(scales={}), "scales: Extra inputs"),
    ],
)
def test_files_that_hold_what_cannot_be(made, tmp_path, change, said):
    data = json.loads(made.model_dump_json())
    change(data)
    path = tmp_path / "scales.json"
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationInvalidError) as caught:
        Calibration.load(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"\x10\0\0\0\0\0\0\0{}", b"12345678{"])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "scales.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationInvalidError, match=r"scales\.json is not a calibration"):
        Calibration.load(path)
    with pytest.raises(FileMissingError, match=r"nowhere\.json"):
        Calibration.load(tmp_path / "nowhere.json")


def test_a_safetensors_file_that_contradicts_itself(made, tmp_path):
    path = tmp_path / "scales.safetensors"
    save_file({"0.input_amax": torch.tensor(1.0)}, path, {"nvfp4.calibration": made.model_dump_json()})
    with pytest.raises(CalibrationInvalidError, match="not those that its metadata says"):
        Calibration.load(path)


def test_a_calibration_of_something_else(made):
    with pytest.raises(CalibrationMismatchError, match="is of another model"):
        quantize(model(seed=1), calibration=made)
    with pytest.raises(CalibrationMismatchError, match="has the layer 2, which is not quantized"):
        quantize(model(), calibration=made, exclude=["2"])
    one = calibrate(model(), inputs=batches(), only=["0"])
    assert quantize(model(), calibration=one).layers[1].reason == "not selected by --only"
    with pytest.raises(CalibrationMismatchError, match="lacks the layer 2"):
        quantize(model(), "w4a4-static", calibration=one)
    with pytest.raises(CalibrationMismatchError, match=r"activations\.scaling static.*says dynamic-token"):
        quantize(model(), "w4a4-dynamic-token", calibration=made)
    with pytest.raises(CalibrationMismatchError, match=r"activations\.observer max.*says mse"):
        quantize(model(), static("mse"), calibration=made)


def test_what_is_quantized_already_takes_none(made, tmp_path):
    with pytest.raises(WrongKindError, match="quantized already: its own layers are FP4, with its own scales"):
        nvfp4_trt.export(quantize(model()), tmp_path / "a.onnx", inputs=batches(), calibration=made)


def test_fp8_layers_are_observed_by_max_whatever_their_k():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 36), nn.ReLU(), nn.Linear(36, 32)).eval()
    recipe = Recipe(activations=static("headroom").activations, fp8=("2",))
    expected = quantize(module, recipe, inputs=batches()).module
    found = calibrate(module, recipe, inputs=batches())
    first, second = found.layers
    assert first.amax > first.largest
    assert second.amax == second.largest
    assert torch.equal(quantize(module, calibration=found).module(rows()), expected(rows()))
    with pytest.raises(CalibrationMismatchError, match="for the FP8 layers"):
        quantize(module, calibration=found, fp8=["0"])


def test_other_weights_methods_take_the_same_calibration(made):
    recipe = Recipe(weights={"rule": "torchao"}, activations=made.recipe.activations)
    assert quantize(model(), recipe, calibration=made).recipe.weights.rule == "torchao"


def test_what_cannot_be_calibrated(tmp_path):
    with pytest.raises(RecipeInvalidError, match="scales activations dynamic: nothing is calibrated"):
        calibrate(model(), "w4a4-dynamic", inputs=batches())
    with pytest.raises(InputsMissingError, match="no batch was given"):
        calibrate(model(), inputs=[])
    given = batches()
    given[2]["input"][0, 0] = float("inf")
    with pytest.raises(NonfiniteCalibrationError, match="the layer 0 in calibration batch 3"):
        calibrate(model(), inputs=given, state=tmp_path / "state")
    with pytest.raises(OutputUnwritableError):
        calibrate(model(), inputs=batches(), state=tmp_path / "nowhere" / "state")


# --- state -----------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path):
    """The state of a calibration that was broken off after three of four batches."""
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        calibrate(model(), static("mse"), inputs=Counted(until=3), state=path)
    assert list(tmp_path.iterdir()) == [path]
    return path


def test_an_interrupted_calibration_goes_on_to_the_same_result(interrupted):
    told = []
    found = calibrate(model(), static("mse"), inputs=batches(), state=interrupted, progress=told.append)
    assert told == [4]  # three were not run again
    assert found.model_dump_json() == calibrate(model(), static("mse"), inputs=batches()).model_dump_json()
    before = interrupted.read_bytes()
    assert calibrate(model(), static("mse"), inputs=batches(), state=interrupted) == found
    assert interrupted.read_bytes() == before


def test_it_is_written_while_batches_run(tmp_path, monkeypatch):
    monkeypatch.setattr("nvfp4_trt.calibration.state._INTERVAL", 0.0)
    seen = []

    def look(done):
        shutil.copy(tmp_path / "state", tmp_path / f"after-{done}")
        seen.append(done)

    found = calibrate(model(), inputs=batches(), state=tmp_path / "state", progress=look)
    for done in seen:  # a kill at any time leaves a state to go on from
        assert calibrate(model(), inputs=batches(), state=tmp_path / f"after-{done}") == found


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (lambda path: calibrate(model(1), static("mse"), inputs=batches(), state=path), "another model: "),
        (lambda path: calibrate(model(), static("max"), inputs=batches(), state=path), "another recipe: "),
        (
            lambda path: calibrate(model(), static("mse"), inputs=batches(), state=path, only=["2"]),
            "another layers",
        ),
        (lambda path: calibrate(model(), static("mse"), inputs=batches(), state=path, dtype="bfloat16"), "dtype"),
        (
            lambda path: calibrate(model(), static("mse"), inputs=batches()[::-1], state=path),
            "the first 3 batches",
        ),
        (lambda path: calibrate(model(), static("mse"), inputs=batches()[:2], state=path), "the first 3 batches"),
    ],
)
def test_a_state_of_something_else_is_refused_and_kept(interrupted, again, said):
    before = interrupted.read_bytes()
    with pytest.raises(CalibrationMismatchError) as caught:
        again(interrupted)
    assert str(interrupted) in caught.value.message
    assert said in caught.value.message
    assert "--state" in caught.value.hint
    assert interrupted.read_bytes() == before


def test_a_state_of_several_processes_is_refused_by_one(interrupted):
    interrupted.rename(interrupted.with_name("state.rank-0-of-2"))
    with pytest.raises(CalibrationMismatchError, match="of another number of processes than 1"):
        calibrate(model(), static("mse"), inputs=batches(), state=interrupted)


def _other_version(path):
    with safe_open(path, framework="pt") as file:
        said = json.loads(file.metadata()["nvfp4.calibration_state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"nvfp4.calibration_state": json.dumps(said | {"version": "9"})})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b""), "is not the state of a calibration"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is not the state of a calibration"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "is not the state of a calibration"),
        (_other_version, "is of version 9, and this is 1"),
    ],
)
def test_files_that_are_no_state(interrupted, spoil, said):
    spoil(interrupted)
    with pytest.raises(CalibrationInvalidError) as caught:
        calibrate(model(), static("mse"), inputs=batches(), state=interrupted)
    assert str(interrupted) in caught.value.message
    assert said in caught.value.message
