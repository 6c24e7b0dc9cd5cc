"""The dispatcher on ONNX Runtime: results of the request's extents, and the same as without padding."""

import threading

import numpy as np
import pytest
import torch
from masked import Masked, build, request

import nvfp4_trt
from nvfp4_trt import Dispatcher, errors
from nvfp4_trt.building import BACKENDS
from nvfp4_trt.building.backends import local_architecture
from nvfp4_trt.portable import load
from nvfp4_trt.runners import onnx_runner

pytestmark = pytest.mark.long
SHAPES = [(1, 1), (1, 32), (1, 33), (2, 5), (4, 64), (5, 64), (9, 20), (2, 70), (4, 80)]


def arrays(batch, sequence, shown=None):
    made = {name: tensor.numpy() for name, tensor in request(batch, sequence).items()}
    if shown is not None:
        made["attention_mask"][:, shown:] = 0
    return made


@pytest.fixture(scope="module")
def unpadded(masked):
    """Return the function that runs the portable file at a request's own shape."""
    model, _ = load(masked())
    with onnx_runner(masked(), model) as runner:
        yield lambda feed: {name: array.copy() for name, array in runner.infer(feed).items()}


@pytest.fixture(scope="module", params=["separate", "shared"])
def dispatcher(request):
    made = request.getfixturevalue(request.param)
    with Dispatcher.load((made[0] if request.param == "separate" else made).path, "onnxruntime") as opened:
        yield opened


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_are_those_of_the_request_alone(dispatcher, unpadded, shape):
    feed = arrays(*shape)
    got, expected = dispatcher(feed), unpadded(feed)
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_allclose(got[name], array, rtol=0, atol=2e-6)


def test_a_mask_of_the_request_is_kept(dispatcher, unpadded):
    feed = arrays(2, 20, shown=7)
    np.testing.assert_allclose(dispatcher(feed)["output_1"], unpadded(feed)["output_1"], rtol=0, atol=2e-6)


def test_which_engine_takes_what(dispatcher):
    def told(batch, sequence):
        return [run.bucket for run in dispatcher.plan(arrays(batch, sequence))]

    assert told(4, 64) == ["4x64"]
    assert told(2, 70) == ["dynamic"]
    assert told(9, 64)[:2] == ["4x64", "4x64"]
    assert len(told(9, 64)) == 3
    assert told(1, 33) == ["1x64"] or told(1, 33) == ["4x64"]


def test_what_no_engine_takes(dispatcher):
    with pytest.raises(errors.ShapeNotServedError, match="batch=5, sequence=80; the set has buckets 1x32"):
        dispatcher(arrays(5, 80))
    with pytest.raises(errors.ShapeNotServedError, match="batch=0, sequence=3"):
        dispatcher(arrays(0, 3))


def without(name):
    made = arrays(2, 5)
    del made[name]
    return made


WRONG = {
    "missing": (without("attention_mask"), "the request has input_ids"),
    "unknown": ({**arrays(2, 5), "token_type_ids": np.zeros((2, 5), np.int64)}, "token_type_ids"),
    "dtype": ({**arrays(2, 5), "input_ids": np.zeros((2, 5), np.int32)}, r"input_ids is int32 \[2, 5\]"),
    "rank": ({**arrays(2, 5), "input_ids": np.zeros(5, np.int64)}, r"input_ids is int64 \[5\]"),
    "two extents": (
        {**arrays(2, 5), "attention_mask": np.ones((2, 6), np.int64)},
        r"attention_mask is int64 \[2, 6\], where batch is 2, sequence is 5",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_requests_that_do_not_fit(dispatcher, case):
    feed, said = WRONG[case]
    with pytest.raises(errors.InputsMismatchError, match=said):
        dispatcher(feed)


def test_threads_may_share_it(dispatcher):
    feeds = [arrays(1 + i % 5, 10 + i) for i in range(8)]
    alone = [dispatcher(feed)["output_1"] for feed in feeds]
    got = [None] * len(feeds)

    def serve(index):
        got[index] = dispatcher(feeds[index])["output_1"]

    threads = [threading.Thread(target=serve, args=(index,)) for index in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for here, there in zip(got, alone, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(("recipe", "moves"), [("w4a4-dynamic", True), ("w4a4-dynamic-token", False)])
def test_only_a_scale_over_the_whole_tensor_sees_the_padding(tmp_path, recipe, moves):
    """What the documentation warns of, with a padding token larger than every other."""
    torch.manual_seed(0)
    module = Masked().eval()
    module.embed.weight.data[0] *= 20
    path = tmp_path / "m.onnx"
    nvfp4_trt.export(module, path, recipe=recipe, inputs=[request(2, 40)], dynamic=["batch,sequence"])
    made = build(path, tmp_path / "set", buckets="4x64", share_weights=True, with_dynamic=False)
    model, _ = load(path)
    with onnx_runner(path, model) as runner, Dispatcher.load(made.path, "onnxruntime") as dispatcher:

        def difference(feed):
            got = dispatcher(feed)["output_1"]
            assert np.isfinite(got).all()
            return np.abs(got - runner.infer(feed)["output_1"]).max()

        assert difference(arrays(4, 64)) < 2e-6, "no padding"
        assert difference(arrays(2, 64)) < 2e-6, "rows that are repeated change no maximum"
        assert (difference(arrays(4, 20)) > 1e-3) == moves


def test_bf16_is_bf16_outside(tmp_path):
    from masked import Masked

    import nvfp4_trt

    torch.manual_seed(0)
    path = tmp_path / "m.onnx"
    nvfp4_trt.export(Masked().eval(), path, inputs=[request(2, 40)], dynamic=["batch,sequence"], dtype="bfloat16")
    made = build(path, tmp_path / "set", buckets="2x32", share_weights=True, with_dynamic=False)
    with Dispatcher.load(made.path, "onnxruntime") as dispatcher:
        got = dispatcher(arrays(1, 30))
    assert {array.dtype.name for array in got.values()} == {"bfloat16"}
    assert got["output_0"].shape == (1, 30, 64)


def test_auto_takes_what_this_machine_has(shared):
    fits = local_architecture() in shared.manifest.targets
    with Dispatcher.load(shared.path) as dispatcher:
        assert dispatcher.backend == ("tensorrt_rtx" if fits else "onnxruntime")


def test_engines_of_the_other_tensorrt(shared):
    with pytest.raises(errors.WrongKindError, match="were built with tensorrt_rtx, and tensorrt cannot load them"):
        Dispatcher.load(shared.path, "tensorrt")
    with pytest.raises(errors.InputSpecError, match="'vulkan'"):
        Dispatcher.load(shared.path, "vulkan")


def test_engines_run_on_the_gpu_that_they_were_built_for_and_nowhere_else(shared, unpadded):
    assert shared.manifest.backend in BACKENDS
    if local_architecture() in shared.manifest.targets:
        with Dispatcher.load(shared.path, "tensorrt_rtx") as dispatcher:
            for shape in SHAPES:
                feed = arrays(*shape)
                np.testing.assert_allclose(dispatcher(feed)["output_1"], unpadded(feed)["output_1"], atol=0.05)
        return
    with pytest.raises((errors.DependencyMissingError, errors.EngineRunError)):
        Dispatcher.load(shared.path, "tensorrt_rtx")
