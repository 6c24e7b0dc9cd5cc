"""The runners themselves: what they load, and how they refuse."""

import pytest
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

import nvfp4_trt
from nvfp4_trt.extension.runners import float_runner, quantized_runner, reference_runner


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


FACTORY = {"factory": "layered:make"}


@pytest.mark.parametrize(
    ("runner", "told"),
    [
        (quantized_runner("no.pt", "model.onnx"), "no.pt does not exist"),
        (quantized_runner("w.safetensors", "no.onnx", **FACTORY), "no.onnx does not exist"),
        (quantized_runner("w.safetensors", "static.onnx", **FACTORY), "looks at inputs"),
        (quantized_runner("w.safetensors", "model.onnx", recipe="best", **FACTORY), "not a built-in recipe"),
        (float_runner("w.safetensors", "w.safetensors", **FACTORY), "w.safetensors is not an ONNX file"),
        (reference_runner("w.safetensors"), "w.safetensors is not an ONNX file"),
        (reference_runner("no.onnx"), "no.onnx does not exist"),
    ],
)
def test_refusals(runner, told, capsys):
    with pytest.raises(PolygraphyException, match=told), runner:
        pass
    assert not runner.is_active


def test_a_checkpoint_is_taken_as_it_is(folder):
    import layered

    batch = next(iter(layered.batches()))
    quantized = nvfp4_trt.quantize(layered.make().eval())
    nvfp4_trt.save(quantized, folder / "packed.safetensors")
    with (
        G_LOGGER.verbosity(G_LOGGER.CRITICAL),
        quantized_runner("packed.safetensors", "model.onnx", **FACTORY) as runner,
    ):
        metadata = runner.get_input_metadata()
        outputs = runner.infer({name: tensor.numpy() for name, tensor in batch.items()})
    assert list(metadata) == ["ids", "mask"]
    expected = quantized(**batch)
    for name, array in outputs.items():
        assert (array == expected[name].detach().numpy()).all()
