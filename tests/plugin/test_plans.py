import pytest
from written_packs import ROWS, write_pack

from nvfp4_trt.errors import KernelMissingError, PluginNodeError
from nvfp4_trt.kernels.launch import COUNTERS_OFFSET, Device, quantize_launch
from nvfp4_trt.kernels.tiles import COUNTERS, choose_tile
from nvfp4_trt.plugin.fields import GemmFields, QuantizeFields
from nvfp4_trt.plugin.plans import plan_gemm, plan_quantize, workspace_bytes
from nvfp4_trt.plugin.shapes import Integers, scale_bytes

DEVICE = Device(132, 227 * 1024)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("packs") / "pack")


@pytest.mark.parametrize("scaling", ["token", "tensor", "static", "single"])
@pytest.mark.parametrize(
    ("function", "number"), [("none", 0), ("rms_norm", 1), ("layer_norm", 0), ("silu_mul", 3)]
)
def test_a_quantizers_launch_and_argument(pack, scaling, function, number):
    fields = QuantizeFields(scaling, function, 1e-6)
    shapes = {"x": (3, 7, 128), "other": (3, 7, 128), "scale": (1,)}
    plan = plan_quantize(pack, fields, [shapes[name] for name in fields.inputs], "bf16", 120, DEVICE)
    assert plan.file.file == f"{fields.kernel}.bf16.sm_120.cubin"
    assert plan.launch == quantize_launch(fields.kernel, scaling, "bf16", 21, 128, DEVICE)
    names = (*fields.inputs, *fields.outputs)
    addresses = {name: 4096 * (i + 1) for i, name in enumerate(names)}
    args = plan.arguments(list(addresses.values()), 1 << 40)
    fields_of = {"alpha": "scale_out", "scale": "scale_in"}
    for name, address in addresses.items():
        assert getattr(args, fields_of.get(name, name)) == address
    absent = {"other", "weight", "bias", "scale", "values", "sum"} - set(names)
    assert all(getattr(args, fields_of.get(name, name)) is None for name in absent)
    assert (args.fake, args.state) == (None, 1 << 40)
    assert (args.m, args.k, args.x_stride, args.other_stride) == (21, 128, 128, 128)
    assert (args.layout, args.function, args.group, args.stash) == (
        1,
        number,
        plan.launch.group,
        plan.launch.stash,
    )
    assert args.epsilon == pytest.approx(1e-6)
    assert args.floor == 0


def test_a_misaligned_address_is_named(pack):
    plan = plan_quantize(pack, QuantizeFields("token"), [(4, 32)], "f16", 120, DEVICE)
    assert plan.arguments([16, 32, 48, 68], 0).scale_out == 68  # a row's scale is written by itself
    with pytest.raises(PluginNodeError, match="codes lies at 0x28"):
        plan.arguments([16, 40, 48, 64], 0)


def test_a_row_too_long_for_one_scale(pack):
    shape = (2, 16 * 1024 * 1024)
    with pytest.raises(PluginNodeError, match="is too long"):
        plan_quantize(pack, QuantizeFields("tensor"), [shape], "bf16", 120, DEVICE)


def gemm_inputs(m, n, k, *, alpha=None, beta=None, bias=False):
    sizes = [(m, k // 2), (scale_bytes(Integers(), m, k),), alpha or (1,)]
    sizes += [(n, k // 2), (scale_bytes(Integers(), n, k),), beta or (1,)]
    return [*sizes, *([(n,)] if bias else [])]


def test_a_gemms_launch_and_arguments(pack):
    fields = GemmFields(16, has_bias=1)
    inputs = gemm_inputs(200, 136, 96, alpha=(200, 1), beta=(136,), bias=True)
    plan = plan_gemm(pack, fields, inputs, 120)
    assert plan.file.file == "gemm.bf16.128x128x128.sm_120.cubin"
    assert (plan.grid, plan.block, plan.shared_bytes) == ((4, 1, 1), 256, 65536)
    assert plan.numbers == (200, 136, 96, 1, 1, 1, 1)
    found = plan.arguments([16, 32, 48, 64, 80, 96, 112, 128], 1 << 20, 1 << 30)
    # a, b, a_scales, b_scales, alpha, beta, bias, out, partials, counters
    assert found == (16, 64, 32, 80, 48, 96, 112, 128, 1 << 30, (1 << 20) + COUNTERS_OFFSET)


def test_a_gemm_without_bias_and_with_scalars(pack):
    plan = plan_gemm(pack, GemmFields(1), gemm_inputs(16, 8, 4096), 120)
    assert plan.file.tile.name == "16x128x256"
    assert plan.numbers == (16, 8, 4096, 0, 0, 0, 4)
    assert plan.grid == (1, 4, 1)
    found = plan.arguments([16, 32, 52, 64, 80, 84, 128], 0, 0)
    assert found[4:8] == (52, 84, 0, 128)
    with pytest.raises(PluginNodeError, match="a_scales lies at"):
        plan.arguments([16, 33, 52, 64, 80, 84, 128], 0, 0)


def test_programs_without_scratch_memory_get_null(pack):
    plan = plan_gemm(pack, GemmFields(1), gemm_inputs(16, 8, 4096), 120)
    assert plan.scratch(1 << 30) == (0, 0)


@pytest.mark.parametrize(
    ("m", "programs", "partials"), [(5, 4, 4 * 5 * 24 * 4), (64, 8, 2 * 64 * 24 * 4), (200, 2, 0)]
)
def test_scratch_memory_lies_behind_the_partial_sums(tmp_path, m, programs, partials):
    pack, fields = write_pack(tmp_path / "pack", scratch=320), GemmFields(1)
    plan = plan_gemm(pack, fields, gemm_inputs(m, 24, 4096), 120)
    first, second = plan.scratch(1 << 30)
    assert plan.grid[0] * plan.grid[1] == programs
    assert first % 256 == second == 0
    assert partials <= first - (1 << 30) < partials + 256
    needed = first - (1 << 30) + programs * 320
    assert needed <= workspace_bytes(pack, fields, gemm_inputs(m, 24, 4096), 120)
    assert plan.arguments([16, 32, 52, 64, 80, 84, 128], 0, 1 << 30)[8] == 1 << 30


def test_a_gpu_that_the_pack_is_not_for(pack):
    with pytest.raises(KernelMissingError, match="sm_100"):
        plan_quantize(pack, QuantizeFields("token"), [(4, 32)], "f16", 100, DEVICE)
    with pytest.raises(KernelMissingError, match="sm_100"):
        plan_gemm(pack, GemmFields(1), gemm_inputs(16, 8, 64), 100)


@pytest.mark.parametrize("most", [1, 16, 17, 64, 65, 300])
@pytest.mark.parametrize(("n", "k"), [(8, 64), (136, 4096), (4096, 512)])
def test_the_workspace_is_enough_for_every_m(pack, most, n, k):
    fields = GemmFields(10)
    declared = workspace_bytes(pack, fields, gemm_inputs(most, n, k), 120)
    needed = []
    for m in range(1, most + 1):
        split_k = plan_gemm(pack, fields, gemm_inputs(m, n, k), 120).numbers[-1]
        needed.append(0 if split_k == 1 else split_k * m * n * 4)
    assert declared == max(needed)


def test_the_workspace_where_tiles_outnumber_the_counters(tmp_path):
    """With many columns, M = 64 has too many tiles to share sums, and fewer rows have not."""
    pack, n, k = write_pack(tmp_path / "pack"), 128 * 3000, 4096
    splits = {m: choose_tile(ROWS, m, n, k)[1] for m in (32, 33, 48, 64)}
    assert len(set(splits.values())) > 1, splits
    declared = workspace_bytes(pack, GemmFields(10), gemm_inputs(64, n, k), 120)
    assert -(-n // 128) * 4 > COUNTERS
    assert declared == max(
        split * m * n * 4 if split > 1 else 0
        for m, split in ((m, choose_tile(ROWS, m, n, k)[1]) for m in range(1, 65))
    )


def test_a_quantizer_needs_no_workspace(pack):
    assert workspace_bytes(pack, QuantizeFields("tensor"), [(4, 32)], 120) == 0
