"""Pages of the site that are made of other files: the reference of all fields, the shipped recipes, two READMEs.

MkDocs calls `on_files` and `on_page_markdown`. Links to files outside of docs/ become links to the pages made of them.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from react_ray.recipe import Recipe
from react_ray.section import NOT_DIGESTED
from react_ray.yaml_file import is_section

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "react_ray/recipes").glob("*.yaml"))
PAGES_OF = {"clusters/README.md": "clusters.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
PIPE = "\\|"
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, "reference/recipe.md", content=reference()))
    files.append(File.generated(config, "reference/recipes.md", content=recipes()))
    for source in PAGES_OF:
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, PAGES_OF[source], content=relinked(text, source, PAGES_OF[source])))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def relinked(markdown: str, source: str, page: str) -> str:
    """Rewrites links of `source`, a path in the repository, so that they hold on `page`, a path in the site."""
    here, there = posixpath.dirname(source), posixpath.dirname(page)

    def link(found: re.Match[str]) -> str:
        path, anchor = posixpath.normpath(posixpath.join(here, found[2])), found[3] or ""
        if path in PAGES_OF:
            path = PAGES_OF[path]
        elif path.startswith("react_ray/recipes/"):
            path, anchor = "reference/recipes.md", "#" + posixpath.basename(path).replace(".", "")
        elif path.startswith("docs/"):
            path = path.removeprefix("docs/")
        elif (ROOT / path).exists():  # a file that is no page
            return f"{found[1]} (`{path}`)"
        else:
            return found[0]  # MkDocs says that it leads nowhere
        return f"[{found[1]}]({posixpath.relpath(path, there or '.')}{anchor})"

    return LINK.sub(link, markdown)


def recipes() -> str:
    """Shows each shipped recipe, whose comments explain it."""
    out = ["# Recipes that are shipped\n"]
    for path in RECIPES:
        out.append(f"## {path.name}\n\n```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n")
    return "\n".join(out)


def reference() -> str:
    """Lists every field of a recipe with its default, made from the models that check recipes."""
    top = [name for name, info in Recipe.model_fields.items() if not is_section(info.annotation)]
    sections = [name for name in Recipe.model_fields if name not in top]
    out = [
        "# Every field of a recipe\n",
        "Write a field in the recipe's YAML, or behind the recipe on the command line as `section.field=value`. "
        "A field marked · changes only where or how fast a run goes, never its results.\n",
        "## The run\n",
        table(Recipe, "", top),
    ]
    for name in sections:
        model: Any = Recipe.model_fields[name].annotation
        out += [f"## `{name}`\n", f"{Recipe.model_fields[name].description}\n", table(model, f"{name}.")]
    return "\n".join(out)


def table(model: type[BaseModel], above: str, only: list[str] | None = None) -> str:
    rows = ["| field | default | meaning |", "|---|---|---|", *rows_of(model, above, only)]
    return "\n".join(rows) + "\n"


def rows_of(model: type[BaseModel], above: str, only: list[str] | None = None) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        if only is not None and name not in only:
            continue
        if is_section(info.annotation):
            rows += rows_of(info.annotation, f"{above}{name}.")
            continue
        default = "required" if info.default is PydanticUndefined else f"`{info.default!r}`"
        mark = " ·" if info.json_schema_extra == NOT_DIGESTED else ""
        cells = [f"`{above}{name}`{mark}", default, str(info.description).replace("<", "&lt;")]
        rows.append(f"| {' | '.join(cell.replace('|', PIPE) for cell in cells)} |")
    return rows
