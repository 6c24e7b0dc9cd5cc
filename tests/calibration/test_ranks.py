"""Calibration over two processes, on gloo: equal to one, and ended by whatever ends one of them."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks_main
import torch

from nvfp4_trt import Calibration, calibrate

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("ranks")
    (made / "mse.yaml").write_text("base: w4a4-static\nactivations: {observer: mse}\n")
    return made


@pytest.fixture(scope="module")
def alone(folder):
    return calibrate(ranks_main.model(), folder / "mse.yaml", inputs=ranks_main.batches())


@pytest.fixture(scope="module")
def told(folder):
    """What each of two ranks says, by scenario, and how rank 0 ended and when after rank 1."""
    names = ("equal", "few", "model", "sharded", "layers", "nan", "terminated", "interrupted", "resumed", "killed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, HERE / "ranks_main.py", folder, *names],
            env=os.environ | common | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    second = started[1].communicate(timeout=120)[0]
    died = time.monotonic()
    first = started[0].communicate(timeout=60)[0]
    said = [{line["scenario"]: line for line in map(json.loads, out.splitlines())} for out in (first, second)]
    return said, [process.returncode for process in started], time.monotonic() - died


@pytest.mark.parametrize("scenario", ["equal", "sharded", "resumed"])
def test_two_ranks_find_what_one_process_finds(told, alone, scenario):
    ours = alone.model_dump_json()
    assert [said[scenario]["json"] for said in told[0]] == [ours, ours]


def test_a_rank_without_a_batch(told, folder):
    one = calibrate(ranks_main.model(), folder / "mse.yaml", inputs=ranks_main.batches(1)).model_dump_json()
    assert [said["few"]["json"] for said in told[0]] == [one, one]


def test_an_interruption_reaches_the_ranks_that_it_meets(told):
    assert all(said["interrupted"].get("interrupted") for said in told[0])


@pytest.mark.parametrize("scenario", ["model", "layers"])
def test_ranks_that_disagree_all_end(told, scenario):
    errors = [said[scenario] for said in told[0]]
    assert {error["code"] for error in errors} <= {"ranks-disagree", "rank-failed"}
    (teller,) = [error for error in errors if not error["told_elsewhere"]]
    assert teller["code"] == "ranks-disagree"
    assert f"rank 1 has another {scenario} than rank 0" in teller["message"]


def test_an_error_of_one_rank_ends_the_other_which_keeps_silent(told):
    first, second = (said["nan"] for said in told[0])
    assert (second["code"], second["told_elsewhere"]) == ("nonfinite-calibration", False)
    assert "the layer 0 in calibration batch 4" in second["message"]  # as one process counts
    assert (first["code"], first["told_elsewhere"]) == ("rank-failed", True)
    assert "rank 1 failed: NaN" in first["message"]


def test_a_rank_that_is_told_to_end_says_so_once(told):
    first, second = (said["terminated"] for said in told[0])
    assert (second["code"], second["told_elsewhere"]) == ("rank-failed", False)
    assert second["message"].startswith("rank 1 was told to end (SIGTERM)")
    assert (first["code"], first["told_elsewhere"]) == ("rank-failed", True)


def test_a_killed_rank_ends_the_other(told):
    said, codes, seconds = told
    assert codes == [0, -9]
    assert said[0]["killed"]["code"] == "rank-failed"
    assert (
        said[0]["killed"]["message"]
        == f"rank 1 gave no sign of life for {ranks_main.SOON:.0f} s: it died or cannot be reached"
    )
    assert not said[0]["killed"]["told_elsewhere"]
    assert seconds < 60


def test_the_command_under_torchrun(folder, alone):
    torch.save(ranks_main.model().state_dict(), folder / "w.pt")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["calibrate", "w.pt", "--model", "ranks_main:model", "--inputs", "ranks_main:batches"]
    options = ["--recipe", "mse.yaml", "-o", "together.json", "--json"]
    done = subprocess.run(
        [*torchrun, "-m", "nvfp4_trt.cli", *arguments, *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1  # of two processes, one says what came out
    assert json.loads(done.stdout)["calibration"] == "together.json"
    assert Calibration.load(folder / "together.json").layers == alone.layers
