"""`nvfp4-trt sensitivity`: what it prints and writes, and how it fails."""

import pytest

from nvfp4_trt.recipe import load_recipe

NET = ("w.pt", "--model", "cli_models:Net", "--inputs", "x.npz")


def test_as_json(run, out):
    ran = run(
        "sensitivity",
        *NET,
        "--budget",
        "sqnr=17",
        "--keep",
        "model",
        "-o",
        out / "r.yaml",
        "--plot",
        out / "p.svg",
        "--json",
    )
    assert ran.status == 0, ran.out
    told = ran.json
    assert {layer["name"] for layer in told["layers"]} == {"up", "odd", "down"}
    assert set(told["layers"][0]) == {"name", "shape", "sqnr_db", "share"}
    assert (told["method"], told["batches"], told["recipe"]) == ("exact", 1, "w4a4-dynamic-token")
    assert told["found"]["value"] >= 17
    assert told["found"]["kept"] == list(load_recipe(out / "r.yaml").exclude)
    assert (told["recipe_file"], told["plot"]) == (str(out / "r.yaml"), str(out / "p.svg"))
    assert "up" in (out / "p.svg").read_text()


def test_for_people(run, out):
    ran = run("sensitivity", *NET, "--method", "estimate")
    lines = ran.out.splitlines()
    assert lines[0] == "Layers, the most damaging first"
    assert sorted(line.split()[0] for line in lines[2:5]) == ["down", "odd", "up"]
    assert lines[-1].startswith("recipe w4a4-dynamic-token: ")
    assert "estimate, 1 batch, " in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "code", "said"),
    [
        (("--budget", "sqnr=99", "--keep", "fp8"), 1, "budget-unmet", "with all 2 layers that may be kept"),
        (("--budget", "sqnr=9", "-o", "{out}/r.txt"), 2, "option-syntax", "no .yaml file"),
        (("-o", "{out}/r.yaml"), 2, "option-syntax", "without a budget"),
        (("--budget", "18"), 2, "option-syntax", "--budget '18'"),
        (("--budget", "metric:cli_models:tiny>=1"), 2, "metric-failed", "cli_models:tiny"),
        (("--budget", "metric:cli_models:nobody>=1"), 2, "factory-import", "has no 'nobody'"),
        (("--plot", "{out}/missing/p.png"), 2, "output-unwritable", "missing"),
        (("--exclude", "*"), 2, "nothing-to-quantize", "excluded by pattern"),
    ],
)
def test_failures(fails, arguments, status, code, said):
    fails(("sensitivity", *NET, *arguments), status=status, code=code, said=said)


def test_a_plot_without_matplotlib(fails, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    fails(
        ("sensitivity", *NET, "--plot", "{out}/p.png"),
        status=3,
        code="dependency-missing",
        said="--plot needs matplotlib",
    )
