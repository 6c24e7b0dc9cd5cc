"""The C++ plugin decides as the Python package does: launches, tiles, attributes, shapes."""

import ctypes
import dataclasses
import itertools

import cpp_rules
import pytest

from nvfp4_trt.errors import KernelMissingError, PluginNodeError
from nvfp4_trt.kernels import launch
from nvfp4_trt.kernels.arguments import ACTIVATIONS, NORMS, Args
from nvfp4_trt.kernels.tiles import choose_tile, gemm_workspace
from nvfp4_trt.plugin import fields, shapes

TILES = {
    t.name: t
    for t in (
        cpp_rules.tile(16, 128, 256),
        cpp_rules.tile(64, 64, 128, scratch_bytes=384),
        cpp_rules.tile(128, 256, 64, 8, scratch_bytes=512),
    )
}
KERNELS = ("quantize", "norm_quantize", "activation_quantize")
SCALINGS = ("token", "tensor", "static", "single")


def row(tile, split_k, max_m=None, max_n=None, max_k=None):
    return {"max_m": max_m, "max_n": max_n, "max_k": max_k, "tile": tile, "split_k": split_k}


TABLES = {
    "sm_90": {
        "source": "made up for this test",
        "rows": [
            row("16x128x256", 8, max_m=16, max_n=4096),
            row("16x128x256", 3, max_m=16),
            row("64x64x128", 64, max_m=300, max_k=8192),
            row("64x64x128", 2, max_n=512),
            row("128x256x64", 1),
        ],
    },
    "sm_120": {"source": "made up for this test", "rows": [row("128x256x64", 5, max_m=64)]},
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    cpp_rules.write_pack(folder / "pack", TABLES, TILES.values(), (90, 120))
    done = cpp_rules.embed(folder / "pack", folder / "out")
    assert done.returncode == 0, done.stderr
    return cpp_rules.compile_rules(folder / "out", folder / "launch_rules")


def size(dice, most):
    """Small, large and round numbers alike, each at least 1."""
    return max(1, int(2 ** dice.uniform(0, most)) + dice.choice((-1, 0, 0, 1)))


def python_launch(kernel, scaling, dtype, m, k, device):
    try:
        made = launch.quantize_launch(kernel, scaling, dtype, m, k, device)
    except ValueError as error:
        return {"error": str(error)}
    return dataclasses.asdict(made) | {"grid": [made.grid, 1]}


def test_quantize_launches(rules):
    dice = cpp_rules.dice(1)
    cases = [
        (kernel, scaling, dtype, size(dice, 17), 16 * size(dice, 11), dice.choice((1, 48, 132, 148, 170)), shared)
        for kernel, scaling, dtype, shared in itertools.product(
            KERNELS, SCALINGS, cpp_rules.DTYPES, (101376, 166912, 232448)
        )
        for _ in range(40)
    ]
    lines = ["quantize " + " ".join(map(str, case)) for case in cases]
    seen = set()
    for case, found in zip(cases, cpp_rules.ask(rules, lines), strict=True):
        kernel, scaling, dtype, m, k, multiprocessors, shared = case
        wanted = python_launch(kernel, scaling, dtype, m, k, launch.Device(multiprocessors, shared))
        assert found == wanted, case
        if "error" in found:
            continue
        seen.add((kernel, found["entry"], found["cooperative"], found["stash"] > 0))
    assert len(seen) > 20, "the shapes reached too few of the rules"


def test_gemm_launches(rules):
    dice = cpp_rules.dice(2)
    cases = [
        (sm, dice.choice(cpp_rules.DTYPES), size(dice, 18), 8 * size(dice, 13), 32 * size(dice, 10))
        for sm in (90, 120)
        for _ in range(400)
    ]
    answers = cpp_rules.ask(rules, ["gemm " + " ".join(map(str, case)) for case in cases])
    splits, refused = set(), 0
    for (sm, _, m, n, k), found in zip(cases, answers, strict=True):
        try:
            name, split_k = choose_tile(TABLES[f"sm_{sm}"]["rows"], m, n, k)
        except KernelMissingError:
            refused += 1
            assert "no GEMM tile for sm_120" in found["error"]
            continue
        (x, y, z), block = launch.gemm_launch(TILES[name], m, n, split_k)
        assert z == 1
        assert (found["tile"], found["split_k"]) == (name, split_k)
        assert (found["launch"]["grid"], found["launch"]["block"]) == ([x, y], block)
        assert found["launch"]["shared_bytes"] == TILES[name].shared_bytes
        assert found["partials"] == (split_k * m * n * 4 if split_k > 1 else 0)
        assert (found["scratch"], found["bytes"]) == gemm_workspace(TILES[name], m, n, split_k)
        splits.add(split_k)
    assert refused > 100
    assert {1, 2, 3, 8} <= splits


def test_workspace_covers_every_smaller_problem(rules):
    dice = cpp_rules.dice(3)
    for _ in range(30):
        m, n, k = size(dice, 14), 8 * size(dice, 12), 32 * size(dice, 10)
        smaller = [
            (dice.randint(1, m), 8 * dice.randint(1, n // 8), 32 * dice.randint(1, k // 32)) for _ in range(20)
        ]
        smaller += [(m, n, k), (min(m, 16), n, k), (min(m, 300), n, k)]
        lines = [f"workspace f16 {m} {n} {k}", *(f"gemm 90 f16 {a} {b} {c}" for a, b, c in smaller)]
        declared, *answers = cpp_rules.ask(rules, lines)
        assert max(answer["bytes"] for answer in answers) <= declared["bytes"]


def test_no_split_no_partial_sums(rules):
    # Only rows that split nothing are left for K = 32: a split needs a tile of K of its own. Two programs of 384
    # bytes are the most that remains.
    assert cpp_rules.ask(rules, ["workspace f16 100 64 32"]) == [{"bytes": 768}]


def test_arguments_lie_where_the_kernels_read_them(rules):
    wanted = {name: getattr(Args, name).offset for name, *_ in Args._fields_} | {"size": ctypes.sizeof(Args)}
    wanted |= {"state_bytes": launch.STATE_BYTES, "counters_offset": launch.COUNTERS_OFFSET}
    assert cpp_rules.ask(rules, ["arguments"]) == [wanted]


def text(shape):
    return "x".join(map(str, shape))


def python_quantize(scaling, function, flags, inputs):
    node = fields.QuantizeFields(scaling, function, 1e-5, *flags)
    m, k = shapes.check_quantize(node, inputs)
    return {
        "kernel": node.kernel,
        "function": (NORMS | ACTIVATIONS).get(function, 0),
        "m": m,
        "k": k,
        "inputs": list(node.inputs),
        "outputs": list(node.outputs),
    }


def compare_nodes(rules, lines, expected):
    """Hold each answer to what Python returns, or to its having refused; returns how often it refused."""
    refused = 0
    for line, found, make in zip(lines, cpp_rules.ask(rules, lines), expected, strict=True):
        try:
            wanted = make()
        except PluginNodeError:
            refused += 1
            assert set(found) == {"error"}, line
        else:
            assert found == wanted, line
    return refused


def quantize_inputs(dice, scaling, function, flags):
    """Return the inputs that a node has, now and then with one of another shape."""
    x = (*(dice.choice((1, 3, 130)) for _ in range(dice.randint(0, 3))), dice.choice((16, 48, 4096)))
    has_other = flags[0] or function == "silu_mul"
    inputs = [x, *([x] if has_other else []), *([x[-1:]] * (flags[1] + flags[2]))]
    inputs += [(1,)] if scaling == "static" else []
    spoil = dice.randint(0, 4 * len(inputs))
    if spoil < len(inputs):
        inputs[spoil] = (*inputs[spoil][:-1], inputs[spoil][-1] + 8)
    return inputs


def test_quantize_nodes(rules):
    dice, lines, expected = cpp_rules.dice(4), [], []
    every_flag = itertools.product((0, 1), repeat=5)
    for scaling, function, flags in itertools.product(
        (*SCALINGS, "row"), (*fields.FUNCTIONS, "swish"), every_flag
    ):
        for _ in range(4 if function in fields.NORMS else 1):
            inputs = quantize_inputs(dice, scaling, function, flags)
            words = ["quantize_node", scaling, function, *map(str, flags), *map(text, inputs)]
            lines.append(" ".join(words))
            expected.append(lambda s=scaling, f=function, g=flags, i=inputs: python_quantize(s, f, g, i))
    refused = compare_nodes(rules, lines, expected)
    assert 200 < refused < len(lines) - 200


def python_gemm(dtype, has_bias, inputs):
    node = fields.GemmFields(dtype, has_bias)
    m, n, k = shapes.check_gemm(node, inputs)
    return {"dtype": node.output_dtype, "m": m, "n": n, "k": k, "inputs": list(node.inputs)}


def test_gemm_nodes(rules):
    dice = cpp_rules.dice(5)
    lines, expected = [], []
    for _ in range(1500):
        m, n, k = dice.choice((1, 7, 130)), 8 * dice.choice((1, 3, 40)), 32 * dice.choice((1, 3, 20))
        whole = shapes.Integers()
        inputs = [
            (2, m, k // 2),
            (shapes.scale_bytes(whole, 2 * m, k),),
            dice.choice(((1,), (2, m, 1))),
            (n, k // 2),
        ]
        inputs += [(shapes.scale_bytes(whole, n, k),), dice.choice(((1,), (n,)))]
        dtype, has_bias = dice.choice((1, 10, 16, 16, 10, 11)), dice.choice((0, 1))
        inputs += [(n,)] * has_bias
        spoil = dice.randint(0, 2 * len(inputs))
        if spoil < len(inputs):
            inputs[spoil] = (*inputs[spoil][:-1], inputs[spoil][-1] + dice.choice((-1, 4, 16)))
        if dice.random() < 0.05:
            inputs.pop()
        lines.append(f"gemm_node {dtype} {has_bias} {' '.join(map(text, inputs))}")
        expected.append(lambda d=dtype, h=has_bias, i=inputs: python_gemm(d, h, i))
    refused = compare_nodes(rules, lines, expected)
    assert 300 < refused < 1200


def test_a_question_that_is_none(rules):
    assert cpp_rules.ask(rules, ["nonsense", "gemm 90"]) == [
        {"error": "no command is named 'nonsense'"},
        {"error": "gemm takes five words"},
    ]
