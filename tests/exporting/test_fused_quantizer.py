"""A model on a GPU quantizes activations with one operator; it exports to the same nodes as the two of a CPU's."""

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

import nvfp4_trt


class ByOneOperator(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 32)

    def forward(self, x):
        fake = torch.ops.nvfp4.fake_quantize_scaled
        return self.linear(x), fake(x, "token"), fake(x, "tensor"), fake(x, "single")


def test_it_exports_and_runs(tmp_path):
    torch.manual_seed(0)
    model, x = ByOneOperator().eval(), torch.randn(4, 64)
    path = tmp_path / "m.onnx"
    nvfp4_trt.export(model, path, inputs=[{"x": x}])
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("PerTokenScale") == 1  # the linear shares it
    assert kinds.count("PerTensorScale") == 1
    assert kinds.count("QuantizeSingleLevel") == 1
    session = ort.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for ours, expected in zip(found[1:], model(x)[1:], strict=True):
        np.testing.assert_array_equal(ours, expected.numpy())
