"""The documentation against the code: links, error codes, options, recipes, metadata keys, passes."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from nvfp4_trt import errors
from nvfp4_trt.cli.main import cli
from nvfp4_trt.explanations import explanations
from nvfp4_trt.layers import Layer
from nvfp4_trt.passes import PIPELINE, BlockQuantizers, MaximumApart, PadRows
from nvfp4_trt.portable import Metadata, portable_functions
from nvfp4_trt.printing.schemas import RESULTS, schema_file, schema_of
from nvfp4_trt.recipe import RECIPES, load_recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    + [page for folder in ("docs", "samples", "plugins", "benchmarks") for page in (ROOT / folder).rglob("*.md")]
)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(page: Path) -> list[list[str]]:
    """Return the words of every `nvfp4-trt` line in a page's code."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join(body for _, body in _FENCE.findall(text))
    code += "\n" + "\n".join(re.findall(r"^    (\S.*)$", _FENCE.sub("", text), re.MULTILINE))
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("nvfp4-trt ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        if anchor:
            assert anchor in _anchors(target), f"{page.name} links to {path}#{anchor}"


def test_every_page_is_in_the_index():
    linked = {(DOCS / path).resolve() for path, _ in _LINK.findall((DOCS / "index.md").read_text("utf-8"))}
    assert {page.resolve() for page in DOCS.rglob("*.md")} - {(DOCS / "index.md").resolve()} <= linked


def test_the_site_leads_to_every_page():
    """`make docs` finds links that lead nowhere, and only notes a page that nothing leads to."""
    _, navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")
    named = re.findall(r"[\w/-]+\.md", navigation)
    made = {"reference/commands.md", "reference/python.md", "schemas/index.md"}  # by site_pages.py
    assert sorted(named) == sorted(made | {path.name for path in DOCS.glob("*.md")}), "add it to nav in mkdocs.yml"


def test_every_error_code_is_explained():
    """Texts are in `nvfp4_trt/explanations.toml`."""
    classes = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.Nvfp4Error) and kind is not errors.Nvfp4Error
    ]
    assert len(classes) > 20
    of_main = {"usage", "out-of-memory", "internal", "interrupted"}
    assert set(explanations()) == {kind.code for kind in classes} | of_main
    names = [f"{kind.__name__}: " for kind in classes]
    for told in explanations().values():
        assert all((told.what, told.remedy, told.means, told.causes, told.example)), told.code
        assert told.example[-1].startswith((f"error[{told.code}]: ", *names)), told.code


def test_the_table_of_errors_is_that_of_the_explanations():
    rows = re.findall(r"^\| `[a-z0-9-]+` \| \d+ \|.*$", (DOCS / "errors.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(told.as_row() for told in explanations().values())


def _names(group: click.Group, words: tuple[str, ...] = ()) -> list[str]:
    """Return every command that is no group, as it is typed."""
    found = []
    for name, command in group.commands.items():
        inside = (*words, name)
        found += _names(command, inside) if isinstance(command, click.Group) else [" ".join(inside)]
    return found


def test_every_command_has_a_schema_and_its_file_is_as_generated():
    """`make schemas` writes them anew; types are in `nvfp4_trt/printing/schemas/`."""
    assert sorted(RESULTS) == sorted(_names(cli))
    files = {path.name: json.loads(path.read_text("utf-8")) for path in (DOCS / "schemas").glob("*.json")}
    assert files == {schema_file(command): schema_of(command) for command in RESULTS}


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that a line calls, and its arguments."""
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page):
    for words in _commands(page):
        command, rest = _resolve(words)
        if isinstance(command, click.Group):
            assert rest, f"{shlex.join(words)} names no command"
            assert rest[0].startswith("-"), f"{shlex.join(words)}: no command {rest[0]!r}"
            continue
        command.make_context(command.name, list(rest))  # raises on an unknown option or a missing argument


def test_the_readme_has_commands_to_parse():
    called = {_resolve(words)[0].name for words in _commands(ROOT / "README.md")}
    assert {"export", "engine", "inspect", "compare"} <= called


def test_options_in_the_tables_exist():
    options = {
        option
        for command in [*cli.commands.values(), *cli.commands["build"].commands.values()]
        for parameter in command.params
        for option in parameter.opts
    }
    cells = re.findall(r"^\| (`--.*?) \|", (DOCS / "cli.md").read_text("utf-8"), re.MULTILINE)
    named = {option for cell in cells for option in re.findall(r"--[a-z][a-z0-9-]*", cell)}
    assert named <= options
    assert options - named <= {
        "-o",
        "--output",
        "--json",
        "--debug",
        "--quiet",
        "--verbose",
        "-q",
        "-v",
        "--help",
        "--reference",
        "code",
        "engine",
        "shell",
        "model",
        "onnx",
        "other",
        "file",
        "checkpoint",
        "output",
    }


def test_the_recipes_page_has_every_recipe_and_its_example_loads(tmp_path):
    text = (DOCS / "recipes.md").read_text("utf-8")
    assert re.findall(r"^\| `(w4\S+)`", text, re.MULTILINE) != []
    assert set(re.findall(r"^\| `(w4\S+)`", text, re.MULTILINE)) == set(RECIPES)
    examples = [body for kind, body in _FENCE.findall(text) if kind == "yaml"]
    files = [tmp_path / f"example{number}.yaml" for number in range(len(examples))]
    for file, example in zip(files, examples, strict=True):
        file.write_text(example, encoding="utf-8")
    recipes = [load_recipe(file) for file in files]
    assert recipes[0].exclude == ("pooler.dense", "*.attention.output.dense")
    assert any(recipe.transforms for recipe in recipes)


def test_the_onnx_page_has_every_operator_key_and_pass():
    text = (DOCS / "onnx-format.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([A-Z]\w+)`", text, re.MULTILINE)) == set(portable_functions())
    layer = Layer("fc", "Linear", (32, 32), "nvfp4")
    props = Metadata({}, (layer,), "spec", "", {}, {}, {"fc": "k-small"}, {"inputs": "0"}).as_props()
    assert set(re.findall(r"^\| `(nvfp4\.\w+)`", text, re.MULTILINE)) == set(props)
    passes = (*PIPELINE, PadRows, MaximumApart, BlockQuantizers)
    assert re.findall(r"^\| `([a-z0-9]+-[a-z0-9-]+)`", text, re.MULTILINE) == [step.name for step in passes]
