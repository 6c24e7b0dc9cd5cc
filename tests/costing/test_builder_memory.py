import pytest

from nvfp4_trt.costing import BuilderMemory, builder_memory


def test_the_log_of_a_build_states_the_memory_of_its_engine(engine):
    built = engine("rows", "batch=3")
    memory = builder_memory(built.log)
    assert memory.activation_bytes > 0
    constants = {o.name: o.nbytes for row in built.record.rows for o in row.constants}
    assert sum(constants.values()) <= memory.weight_bytes < sum(constants.values()) + 64 * 1024


def test_activations_grow_with_the_largest_shape(engine):
    small = builder_memory(engine("heads", "batch=6", "sequence=18").log)
    large = builder_memory(engine("heads", "batch=1:6:12", "sequence=1:18:64").log)
    assert small.activation_bytes < large.activation_bytes


def test_the_last_engine_of_a_log_counts():
    lines = "INFO: Total Activation Memory: {} bytes\nINFO: Total Weights Memory: {} bytes\n"
    log = lines.format(1, 2) + lines.format(30, 40)
    assert builder_memory(log) == BuilderMemory(activation_bytes=30, weight_bytes=40)


@pytest.mark.parametrize("log", ["", "INFO: Total Activation Memory: 5 bytes\n", "Total Weights Memory: 5 bytes"])
def test_a_log_without_them_is_refused(log):
    with pytest.raises(ValueError, match="does not state"):
        builder_memory(log)
