"""From a training run to `nvfp4-trt export`, through files: the graph is that of the converted model."""

import onnx
import pytest
import torch

import nvfp4_trt

FILL = ("--model", "cli_models:Net", "--inputs", "x.npz")


@pytest.fixture
def trained(assets):
    """Return the function that prepares the model and trains it a little."""
    import cli_models

    def train(recipe):
        model = cli_models.Net()
        model.load_state_dict(torch.load(assets / "w.pt"))
        nvfp4_trt.prepare_qat(model, recipe, inputs=[{"x": torch.randn(4, 64)}])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        out = model(torch.randn(16, 64))
        (out["score"].square().mean() + out["features"].square().mean()).backward()
        optimizer.step()
        return model

    return train


def same_graph(one, other):
    one, other = onnx.load(one).graph, onnx.load(other).graph
    return list(one.initializer) == list(other.initializer) and list(one.node) == list(other.node)


def test_a_state_dict_is_quantized_to_what_training_showed(trained, run, out):
    model = trained("w4a4-dynamic-token")
    nvfp4_trt.export(nvfp4_trt.convert_qat(model), out / "converted.onnx", inputs=[{"x": torch.randn(4, 64)}])
    torch.save(model.state_dict(), out / "trained.pt")
    ran = run("export", out / "trained.pt", *FILL, "-o", out / "from_file.onnx", "--json")
    assert ran.status == 0, ran.err
    assert same_graph(out / "converted.onnx", out / "from_file.onnx")
    ran = run("export", "w.pt", *FILL, "-o", out / "untrained.onnx", "--json")
    assert not same_graph(out / "converted.onnx", out / "untrained.onnx")


def test_a_saved_model_brings_its_static_scales(trained, run, out):
    model = trained("w4a4-static")
    converted = nvfp4_trt.convert_qat(model)
    nvfp4_trt.export(converted, out / "converted.onnx", inputs=[{"x": torch.randn(4, 64)}])
    nvfp4_trt.save(converted, out / "trained.safetensors")
    ran = run("export", out / "trained.safetensors", *FILL, "-o", out / "from_file.onnx", "--json")
    assert ran.status == 0, ran.err
    assert [layer["precision"] for layer in ran.json["layers"]] == ["nvfp4", "nvfp4", "nvfp4", "float32"]
    assert same_graph(out / "converted.onnx", out / "from_file.onnx")


def test_what_is_wrong_with_exporting_a_quantized_model(trained, out):
    converted = nvfp4_trt.convert_qat(trained("w4a16"))
    for options in ({"recipe": "w4a16"}, {"only": ["up"]}):
        with pytest.raises(nvfp4_trt.Nvfp4Error, match=r"this Net (is|was) quantized") as caught:
            nvfp4_trt.export(converted, out / "m.onnx", inputs=[{"x": torch.randn(4, 64)}], **options)
        assert caught.value.code == "wrong-kind"
