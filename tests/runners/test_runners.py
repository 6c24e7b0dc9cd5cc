import numpy as np
import onnx_ir as ir
import pytest
import torch
from polygraphy.logger import G_LOGGER
from torch import nn

from nvfp4_trt.errors import InputsMismatchError, ModelRunError
from nvfp4_trt.runners import TorchRunner, as_feed, as_numpy, onnx_runner, quiet
from nvfp4_trt.runners.widen import holds_bf16, widen

# The initializer is 1, 2, 3, 4: the text format gives bf16 by its bits.
BF16_GRAPH = """<ir_version: 10, opset_import: ["": 21]>
g (bfloat16[N, 4] x, int64[1] axis) => (bfloat16[N, 4] y, bfloat16[N, 4] same)
<bfloat16[4] w = {16256, 16384, 16448, 16512}> {
    product = Mul(x, w)
    total = ReduceSum(product, axis)
    share = Div(product, total)
    y = Mul(share, share)
    same = Identity(x)
}"""


def infer(runner, feed):
    with quiet(), runner:
        return runner.infer(feed)


def test_torch_runner_names_its_outputs_as_files_do():
    module = nn.LSTM(4, 3, batch_first=True).eval()
    batch = {"input": torch.randn(2, 5, 4)}
    found = infer(TorchRunner(module, batch), as_feed(batch))
    with torch.no_grad():
        y, (h, c) = module(**batch)
    assert list(found) == ["output_0", "output_1_0", "output_1_1"]
    for array, tensor in zip(found.values(), (y, h, c), strict=True):
        assert np.array_equal(array, tensor.numpy())


def test_torch_runner_takes_other_extents_than_the_example():
    module = nn.Linear(4, 2)
    found = infer(TorchRunner(module, {"input": torch.zeros(1, 4)}), {"input": np.ones((7, 4), np.float32)})
    assert found["output"].shape == (7, 2)


def test_torch_runner_keeps_the_modules_precision():
    module = nn.Linear(64, 8).bfloat16()
    batch = {"input": torch.randn(3, 64).bfloat16()}
    found = infer(TorchRunner(module, batch), as_feed(batch))
    assert found["output"].dtype == np.float32
    with torch.no_grad():
        assert np.array_equal(found["output"], module(**batch).float().numpy())


def test_torch_runner_raises_our_errors():
    class Raises(nn.Module):
        def forward(self, x):  # noqa: ARG002
            raise KeyError("gone")

    with pytest.raises(ModelRunError, match="gone"):
        infer(TorchRunner(Raises(), {"x": torch.zeros(1)}), {"x": np.zeros(1, np.float32)})
    with pytest.raises(InputsMismatchError):
        infer(
            TorchRunner(nn.Linear(4, 2), {"input": torch.zeros(1, 3)}),
            {"input": np.zeros((1, 3), np.float32)},
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64, torch.bool, torch.bfloat16], ids=str)
def test_as_numpy_keeps_every_value(dtype):
    tensor = torch.tensor([0, 1, 3]).to(dtype)
    assert as_numpy(tensor).tolist() == tensor.tolist()


def test_quiet_restores_the_severity_that_was_set():
    before = G_LOGGER.module_severity
    with pytest.raises(ValueError), quiet():
        raise ValueError
    assert str(G_LOGGER.module_severity) == str(before)


def test_bf16_graphs_run_and_round_each_result(tmp_path):
    path = tmp_path / "bf16.onnx"
    model = ir.from_onnx_text(BF16_GRAPH)
    ir.save(model, path)
    assert holds_bf16(model)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).abs().bfloat16() + 1
    found = infer(onnx_runner(path, model), {"x": as_numpy(x), "axis": np.array([1])})
    product = x * torch.tensor([1, 2, 3, 4]).bfloat16()
    share = product / product.float().sum(1, keepdim=True).bfloat16()
    assert found["y"].dtype == np.float32
    assert np.array_equal(found["y"], (share * share).float().numpy())
    assert np.array_equal(found["same"], x.float().numpy())


def test_widening_leaves_names_and_other_dtypes_alone():
    model = ir.from_onnx_text(BF16_GRAPH)
    widen(model)
    assert [(v.name, v.dtype) for v in model.graph.inputs] == [
        ("x", ir.DataType.FLOAT),
        ("axis", ir.DataType.INT64),
    ]
    assert [(v.name, v.dtype) for v in model.graph.outputs] == [
        ("y", ir.DataType.FLOAT),
        ("same", ir.DataType.FLOAT),
    ]
