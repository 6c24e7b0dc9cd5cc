"""Outcomes that are kept: what the key depends on, and what becomes of a cache that is broken or full."""

import os

import pytest
from tiny_networks import linear, make_spec

from nvfp4_trt.building import outcomes
from nvfp4_trt.building.outcomes import outcome_key, recall, remember
from nvfp4_trt.building.spec import BuildResult, PluginSpec

RESULT = BuildResult(seconds=1.5, version="1.7")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nvfp4-trt" / "outcomes"


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path, linear())


def test_what_is_remembered_is_recalled(folder, spec, tmp_path):
    key = outcome_key(spec)
    assert recall(key, spec) is None
    spec.record.write_text("Layers: …", encoding="utf-8")
    remember(key, spec, RESULT)
    assert len(list(folder.iterdir())) == 1
    other = spec.model_copy(update={"record": tmp_path / "elsewhere"})
    assert recall(outcome_key(other), other) == RESULT
    assert other.record.read_text(encoding="utf-8") == "Layers: …"


def test_the_key_depends_on_what_the_outcome_does(spec, tmp_path):
    shapes = {"x": ((1, 64), (2, 64), (3, 64))}
    keys = {
        outcome_key(spec),
        outcome_key(spec.model_copy(update={"targets": ("sm_121",)})),
        outcome_key(spec.model_copy(update={"profiles": (shapes,)})),
        outcome_key(spec.model_copy(update={"profiles": (shapes, shapes)})),
    }
    spec.model.with_name(f"{spec.model.name}.data").write_bytes(b"weights")
    keys.add(outcome_key(spec))
    spec.model.write_bytes(spec.model.read_bytes() + b"\0")
    keys.add(outcome_key(spec))
    assert len(keys) == 6
    assert "" not in keys


def test_what_cannot_be_told_by_content_has_no_key(folder, spec, tmp_path):
    assert outcome_key(spec.model_copy(update={"plugin": PluginSpec(pack=tmp_path, sm=120)})) == ""
    assert outcome_key(spec.model_copy(update={"backend": "tensorrt"})) == ""
    remember("", spec, RESULT)
    assert not folder.exists()


@pytest.mark.parametrize("held", [b"", b"no gzip", b"\x1f\x8b\x08\x00"])
def test_a_broken_file_is_as_none(folder, spec, held):
    key = outcome_key(spec)
    folder.mkdir(parents=True)
    (folder / f"{key}.json.gz").write_bytes(held)
    assert recall(key, spec) is None
    spec.record.write_text("Layers: …", encoding="utf-8")
    remember(key, spec, RESULT)
    assert recall(key, spec) == RESULT


def test_a_cache_that_cannot_be_written_is_left(folder, spec):
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be", encoding="utf-8")
    spec.record.write_text("Layers: …", encoding="utf-8")
    remember(outcome_key(spec), spec, RESULT)
    assert recall(outcome_key(spec), spec) is None


def test_the_ones_used_longest_ago_go_first(folder, spec, monkeypatch):
    monkeypatch.setattr(outcomes, "KEPT", 2)
    spec.record.write_text("Layers: …", encoding="utf-8")
    for age, key in enumerate("ab"):
        remember(key, spec, RESULT)
        os.utime(folder / f"{key}.json.gz", (1000 + age, 1000 + age))
    recall("a", spec)
    remember("d", spec, RESULT)
    assert {path.name[0] for path in folder.iterdir()} == {"a", "d"}
