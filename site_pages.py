"""A hook of mkdocs: pages that are made from the code, and links that lead out of `docs/`.

The pages in `docs/` are written for whoever reads them in the repository, so that they link to samples, benchmarks
and sources beside it. Here those files become files of the site, and the links follow them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

from nvfp4_trt import _HOMES, __all__
from nvfp4_trt.printing.schemas import RESULTS, schema_file

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent
DOCS = ROOT / "docs"
OUTSIDE = "repository"
"""Where files from outside `docs/` go."""
_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)")
_COMMANDS = """# Every option

::: mkdocs-click
    :module: nvfp4_trt.cli.main
    :command: cli
    :prog_name: nvfp4-trt
    :depth: 1
    :style: table
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the decisions to the navigation: there is one more now and then."""
    decisions = sorted(f"adr/{path.name}" for path in (DOCS / "adr").glob("*.md"))
    config.nav = [*(config.nav or []), {"Decisions": decisions}]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add pages made from the code, and what pages link to outside `docs/`."""
    functions = "\n".join(f"::: {_HOMES[name]}.{name}\n" for name in __all__)
    schemas = "\n".join(f"- [`nvfp4-trt {command} --json`]({schema_file(command)})" for command in RESULTS)
    for name, text in (
        ("reference/commands.md", _COMMANDS),
        ("reference/python.md", f"# Every function\n\n{functions}"),
        ("schemas/index.md", f"# JSON schemas\n\nWhat each command prints with `--json`.\n\n{schemas}\n"),
    ):
        files.append(File.generated(config, name, content=text))
    waiting = [Path(str(file.abs_src_path)) for file in files.documentation_pages() if file.abs_src_path]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in _targets(page):
            if target in seen or target.is_relative_to(DOCS):
                continue
            seen.add(target)
            if target.is_dir():
                files.append(File.generated(config, _place(target), content=_listing(target)))
                continue
            files.append(File.generated(config, _place(target), abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let links lead to where their files are in the site."""
    source = page.file.abs_src_path
    if not source:
        return markdown
    here, folder = Path(source), Path(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        target = (here.parent / match[2]).resolve()
        return match[1] + os.path.relpath(_place(target), folder) if target.exists() else match[0]

    return _LINK.sub(moved, markdown)


def _targets(page: Path) -> list[Path]:
    """Return the files and folders of the repository that a page links to."""
    found = [(page.parent / path).resolve() for _, path in _LINK.findall(page.read_text(encoding="utf-8"))]
    return [target for target in found if target.exists() and target.is_relative_to(ROOT)]


def _listing(folder: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    return "\n".join(
        [f"# {folder.relative_to(ROOT)}", "", "In the repository:", "", *(f"- `{name}`" for name in names)]
    )


def _place(target: Path) -> str:
    """Return where a file of the repository is in the site; of a folder, its page."""
    inside = target.is_relative_to(DOCS)
    name = target.relative_to(DOCS if inside else ROOT).as_posix()
    name = f"{name}/index.md" if target.is_dir() else name
    return name if inside else f"{OUTSIDE}/{name}"
