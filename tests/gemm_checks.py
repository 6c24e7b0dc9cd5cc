"""Checks of the GEMM on a Hopper GPU, both of its loops: `python -m tests.gemm_checks FOLDER`, by hand.

FOLDER holds the cubins that `python -m tests.gemm_checks --compile FOLDER` wrote, which needs Triton and no GPU:
every tile as it is compiled for sm_90, and those tiles whose loop is another on sm_100 with that loop too, which
a pack has for sm_100 and sm_103 alone (here without the warp specialization that it has there). Each case is run
twice, into poisoned memory: results within rounding of fp64, the same bits again, and nothing written behind the
outputs, the partial sums and the programs' scratch memory. What fails is printed; the exit status is 0 where all
hold.
"""

import ctypes
import sys
from pathlib import Path

import torch

from nvfp4_trt.kernels.driver import Library
from nvfp4_trt.kernels.launch import gemm_launch
from nvfp4_trt.kernels.pack import GemmTile
from nvfp4_trt.kernels.sources import GEMM_SOURCE, SOURCES
from nvfp4_trt.kernels.tiles import gemm_workspace
from tests.kernels.gemm_cases import GUARD, TORCH, Case, check, gpu_cases, in_form_of, make, outputs

HOPPER, OTHER = 90, 100
POISON = 0x5A


def stem(tile: str, dtype: str, like: int) -> str:
    return f"{dtype}.{tile}.like_sm_{like}"


def compile_all(folder: Path) -> None:
    from nvfp4_trt.kernels.triton_compiler import compile_gemm, tile_names

    folder.mkdir(parents=True, exist_ok=True)
    for tile in tile_names(SOURCES / GEMM_SOURCE):
        for dtype in TORCH:
            for like in (HOPPER, OTHER):
                made = compile_gemm(SOURCES / GEMM_SOURCE, tile, dtype, HOPPER, like=like)
                if like == HOPPER or made.tile.scratch_bytes:
                    name = stem(tile, dtype, like)
                    (folder / f"{name}.cubin").write_bytes(made.cubin)
                    (folder / f"{name}.json").write_text(made.tile.model_dump_json())


def cases_for(folder: Path) -> list[Case]:
    """Return the cases of every tile that the folder has, in each of its forms."""
    found = [(path.stem.split(".")[1], int(path.stem.rsplit("_", 1)[1])) for path in folder.glob("bf16.*.json")]
    return [case for tile, like in sorted(found) for case in in_form_of(like, gpu_cases([tile]))]


def run(folder: Path, case: Case) -> tuple[float, bool]:
    """Return the largest error as a fraction of what is allowed, and whether all else holds."""
    name = stem(case.tile, case.dtype, case.like)
    tile = GemmTile.model_validate_json((folder / f"{name}.json").read_text())
    kernel = Library((folder / f"{name}.cubin").read_bytes(), name).kernel(
        "gemm_kernel", torch.cuda.current_device()
    )
    problem = make(case)
    given = [each.cuda() for each in problem[:7]]
    room = gemm_workspace(tile, case.m, case.n, case.split_k)
    (tiles, shares, _), block = gemm_launch(tile, case.m, case.n, case.split_k)
    results, held, error = [], True, 0.0
    for _ in range(2):
        made = [each.cuda() for each in outputs(case)]
        used = tiles * shares * tile.scratch_bytes
        scratch = torch.full((room.bytes - room.scratch + GUARD,), POISON, dtype=torch.uint8, device="cuda")
        numbers = (case.m, case.n, case.k, case.alpha_by_row, case.beta_by_column, case.has_bias, case.split_k)
        own = (scratch.data_ptr() if used else 0, 0)
        parameters = [ctypes.c_void_p(each.data_ptr()) for each in (*given, *made)]
        parameters += [ctypes.c_int32(int(number)) for number in numbers]
        parameters += [ctypes.c_void_p(address) for address in own]
        stream = torch.cuda.current_stream().cuda_stream
        kernel.launch((tiles, shares, 1), block, tile.shared_bytes, stream, parameters)
        torch.cuda.synchronize()
        held = held and bool((scratch[used:] == POISON).all())
        error = max(error, check(case, problem, *(each.cpu() for each in made)))
        results.append(made[0].view(torch.uint8))
    return error, held and torch.equal(*results)


def main() -> None:
    if sys.argv[1] == "--compile":
        compile_all(Path(sys.argv[2]))
        return
    torch.cuda.init()
    torch.empty(1, device="cuda")  # makes the device's context the current one
    sys.stdout.write(f"{torch.__version__} {torch.cuda.get_device_name()}\n")
    folder, failed = Path(sys.argv[1]), 0
    cases = cases_for(folder)
    for case in cases:
        try:
            error, held = run(folder, case)
        except AssertionError as problem:
            error, held = float("inf"), False
            sys.stdout.write(f"{problem}\n")
        if error > 1 or not held:
            failed += 1
            sys.stdout.write(f"FAIL {case.name}: {error:.3g} of the allowed error\n")
    sys.stdout.write(f"{len(cases) - failed} of {len(cases)} checks hold\n")
    sys.exit(failed > 0 or not cases)


if __name__ == "__main__":
    main()
