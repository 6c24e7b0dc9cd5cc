"""Builds beside each other: their order, their time, and what one's end does to the others."""

import time

import pytest
from tiny_networks import linear, make_spec

from nvfp4_trt.building.process import AT_ONCE, Job, run_builds
from nvfp4_trt.building.spec import BuildResult
from nvfp4_trt.errors import BuildCrashedError, ParseFailedError

pytestmark = pytest.mark.long


def job(folder, name, *, optional=False):
    (folder / name).mkdir()
    return Job(make_spec(folder / name, linear()), folder / name, optional)


def broken(folder, name):
    made = job(folder, name)
    made.spec.model.write_bytes(b"no model")
    return made


def test_outcomes_are_in_the_order_of_the_jobs(tmp_path):
    first, second, third = run_builds([job(tmp_path, "a"), broken(tmp_path, "b"), job(tmp_path, "c")])
    assert isinstance(second, ParseFailedError)
    assert all(isinstance(each, BuildResult) and each.seconds > 0 for each in (first, third))
    assert (tmp_path / "a" / "tiny.engine").read_bytes() == (tmp_path / "c" / "tiny.engine").read_bytes()


def test_jobs_are_taken_as_processes_become_free(tmp_path):
    begun = []

    def jobs():
        for name in "abc":
            begun.append((name, [(tmp_path / other / "result.json").is_file() for other in "abc"]))
            yield job(tmp_path, name)

    run_builds(jobs())
    assert [name for name, _ in begun] == ["a", "b", "c"]
    assert sum(begun[2][1]) >= 3 - AT_ONCE


def test_when_the_time_is_over_only_optional_ones_end(tmp_path):
    jobs = [job(tmp_path, "a", optional=True), job(tmp_path, "b"), job(tmp_path, "c", optional=True)]
    first, second, third = run_builds(jobs, time.monotonic())
    assert (first, third) == (None, None)
    assert isinstance(second, BuildResult)
    assert not (tmp_path / "a" / "spec.json").exists()  # it was not even begun


def test_one_that_runs_is_stopped(tmp_path):
    made = job(tmp_path, "a", optional=True)
    (outcome,) = run_builds([made], time.monotonic() + 0.2)
    assert outcome is None
    assert (tmp_path / "a" / "spec.json").exists()
    assert not (tmp_path / "a" / "result.json").exists()


def test_what_ends_the_jobs_ends_the_builds(tmp_path):
    def jobs():
        yield job(tmp_path, "a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_builds(jobs())
    assert not (tmp_path / "a" / "result.json").exists()


def test_a_crash_is_an_outcome(tmp_path):
    made = job(tmp_path, "a")
    spec = made.spec.model_copy(update={"engine": tmp_path / "missing" / "e"})
    (outcome,) = run_builds([Job(spec, made.folder)])
    assert isinstance(outcome, BuildCrashedError)
