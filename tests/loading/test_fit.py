"""Checking that inputs fit, without computing."""

import pytest
import torch
from torch import nn

from nvfp4_trt.errors import InputsMismatchError
from nvfp4_trt.loading import check_fits


class Counts(nn.Module):
    """Counts the forwards that see data."""

    def __init__(self, looks: bool = False):
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.looks, self.real = looks, 0

    def forward(self, x):
        if type(x) is torch.Tensor:
            self.real += 1
        if self.looks and float(x.sum()) > 1e9:
            return self.fc(x) * 2
        return self.fc(x)


def test_nothing_is_computed():
    model = Counts()
    check_fits(model, {"x": torch.randn(2, 8)})
    assert model.real == 0


def test_a_model_that_looks_at_data_runs_once():
    model = Counts(looks=True)
    check_fits(model, {"x": torch.randn(2, 8)})
    assert model.real == 1


@pytest.mark.parametrize("x", [torch.randn(2, 9), torch.zeros(2, 8, dtype=torch.int64)])
def test_misfits_are_told_of_the_real_run(x):
    with pytest.raises(InputsMismatchError, match="the model raised on x"):
        check_fits(Counts(), {"x": x})


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_fits(model, {"input": torch.randn(3, 8)})
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
