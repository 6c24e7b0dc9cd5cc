"""Serving sets of a small encoder, each built once in a session."""

import pytest
import torch
from masked import Masked, build, request

import nvfp4_trt

BUCKETS = "1x32,1x64,4x64"


@pytest.fixture(scope="session")
def masked(tmp_path_factory):
    """Return the portable file of the encoder with a mask, for a recipe."""
    made = {}

    def export(recipe="w4a4-dynamic-token"):
        if recipe not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("masked") / "masked.onnx"
            made[recipe] = nvfp4_trt.export(
                Masked().eval(), path, recipe=recipe, inputs=[request(2, 40)], dynamic=["batch,sequence"]
            ).path
        return made[recipe]

    return export


@pytest.fixture(scope="session")
def separate(masked, tmp_path_factory):
    """Return a set with an engine for each bucket and a dynamic one, and the log of its builds."""
    folder = tmp_path_factory.mktemp("separate")
    made = build(masked(), folder / "set", buckets=BUCKETS, dims=["sequence=1:64:80"], log=folder / "builds.log")
    return made, (folder / "builds.log").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def shared(masked, tmp_path_factory):
    """Return the same set as profiles of one engine."""
    folder = tmp_path_factory.mktemp("shared") / "set"
    return build(masked(), folder, buckets=BUCKETS, dims=["sequence=1:64:80"], share_weights=True)
