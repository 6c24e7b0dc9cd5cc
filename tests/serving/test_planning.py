"""Which engines a request goes to, on a manifest written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.errors import ShapeNotServedError
from nvfp4_trt.serving.manifest import BucketEntry, DynamicEntry, Manifest, ModelEntry, Tensor
from nvfp4_trt.serving.planning import plan

ENGINE = {"file": "e", "sha256": "", "engine_bytes": 1, "kernels": 1, "bytes_moved": 1, "unresolved": 0}
TIMES = {(1, 64): 20.0, (1, 128): 30.0, (8, 128): 60.0}


def manifest(times=None, *, batch="batch", ranges=None):
    buckets = tuple(
        BucketEntry(name=f"{b}x{s}", extents={"batch": b, "sequence": s}, microseconds_modelled=time, **ENGINE)
        for (b, s), time in (times or TIMES).items()
    )
    dynamic = None if ranges is None else DynamicEntry(ranges=ranges, microseconds_modelled=99.0, **ENGINE)
    tensor = Tensor(name="x", dtype="int64", shape=("batch", "sequence"))
    return Manifest(
        model=ModelEntry(file="m", sha256="", recipe="r", activation_scaling="static", source_sha256=""),
        backend="tensorrt_rtx",
        version="1",
        targets=("sm_120",),
        gpu="rtx5090",
        dims=("batch", "sequence"),
        batch=batch,
        unmasked=(),
        shared_weights=False,
        inputs=(tensor,),
        outputs=(tensor,),
        buckets=buckets,
        dynamic=dynamic,
    )


def runs(made, batch, sequence):
    return [
        (run.bucket, run.start, run.used["batch"]) for run in plan(made, {"batch": batch, "sequence": sequence})
    ]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 1), "1x64"), ((1, 64), "1x64"), ((1, 65), "1x128"), ((2, 3), "8x128"), ((8, 128), "8x128")],
)
def test_the_cheapest_that_takes_it(shape, expected):
    (run,) = plan(manifest(), dict(zip(("batch", "sequence"), shape, strict=True)))
    assert run.bucket == expected
    assert run.used == {"batch": shape[0], "sequence": shape[1]}
    assert run.padding == pytest.approx(1 - shape[0] * shape[1] / run.engine.volume)


def test_cheap_is_what_the_model_says_and_not_what_is_small():
    assert runs(manifest({(1, 64): 31.0, (1, 128): 30.0}), 1, 10) == [("1x128", 0, 1)]
    assert runs(manifest({(1, 128): 30.0, (1, 64): 30.0}), 1, 10) == [("1x64", 0, 1)], "of equals, the smaller"


def test_a_larger_batch_is_split():
    assert runs(manifest(), 9, 64) == [("8x128", 0, 8), ("1x64", 8, 1)]
    assert runs(manifest(), 19, 100) == [("8x128", 0, 8), ("8x128", 8, 8), ("8x128", 16, 3)]
    assert runs(manifest({(1, 64): 20.0}), 3, 5) == [("1x64", 0, 1), ("1x64", 1, 1), ("1x64", 2, 1)]


def test_the_dynamic_engine_takes_the_rest():
    made = manifest(ranges={"batch": (1, 8, 16), "sequence": (1, 128, 256)})
    assert runs(made, 2, 200) == [("dynamic", 0, 2)]
    assert runs(made, 9, 64) == [("8x128", 0, 8), ("1x64", 8, 1)], "a batch is split first"
    (run,) = plan(made, {"batch": 2, "sequence": 200})
    assert (run.extents, run.padding) == ({"batch": 2, "sequence": 200}, 0.0)


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (manifest(), (1, 129)),
        (manifest(), (9, 129)),
        (manifest(), (0, 10)),
        (manifest(), (1, 0)),
        (manifest(batch=None), (9, 64)),
        (manifest(ranges={"batch": (1, 8, 16), "sequence": (1, 128, 256)}), (2, 257)),
        (manifest(batch=None, ranges={"batch": (1, 8, 16), "sequence": (8, 128, 256)}), (17, 3)),
    ],
)
def test_what_nothing_takes(made, shape):
    with pytest.raises(ShapeNotServedError) as caught:
        runs(made, *shape)
    for part in (f"batch={shape[0]}, sequence={shape[1]}", "1x64, 1x128, 8x128 (batchxsequence)"):
        assert part in caught.value.message
    assert ("no dynamic engine" in caught.value.message) == (made.dynamic is None)


@given(batch=st.integers(1, 50), sequence=st.integers(1, 128))
def test_every_row_is_in_one_run(batch, sequence):
    made = plan(manifest(), {"batch": batch, "sequence": sequence})
    rows = [row for run in made for row in range(run.start, run.start + run.used["batch"])]
    assert rows == list(range(batch))
    assert all(run.used[dim] <= run.extents[dim] for run in made for dim in run.extents)
