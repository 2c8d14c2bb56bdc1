"""Imports point down only: foundation <- core <- recipe <- runtime <- stages <- cli, jobs; and Ray stays on top."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import react_ray

PACKAGE = Path(react_ray.__file__).parent
FOUNDATION = {
    "errors",
    "section",
    "schema",
    "vectors",
    "pair_id",
    "uri",
    "storage",
    "parquet",
    "manifest",
    "metadata",
    "yaml_file",
    "kinds",
    "draft",
    "places",
    "artifact",
    "counted",
    "progress",
    "row_guard",
    "redact",
    "fault_log",
    "interrupt",
    "lease",
    "cancellation",
}
CORE = [
    "sample",
    "web",
    "pairs",
    "index",
    "selection",
    "clip",
    "gated",
    "training",
    "evals",
    "report",
    "comparison",
]  # each may import those before it
LAYERS = [
    FOUNDATION,
    *({package} for package in CORE),
    {"serve_config"},
    {"recipe"},
    {"search"},
    {"serving"},
    {"runtime"},
    {"planning"},
    {"stages"},
    {"ending", "field_help", "first_recipe"},
    {"cli"},
]
# Within the stages, folders hold the parts of the verbs. A verb imports no other verb, except `run`, which calls all.
STAGES = [
    "downloading",
    "embedding",
    "indexing",
    "retrieval",
    "training",
    "evaluating",
    "showing",
    "reporting",
    "serving",
    "a verb",
    "run",
]
MAY_IMPORT = {
    "boto3": {"storage"},
    "botocore": {"storage"},
    "pyarrow.fs": {"storage"},
    "aiohttp": {"web", "serving.async_client"},
    "open_clip": {"clip.architecture", "clip.backbone", "clip.pretrained"},
    "deepspeed": {"stages.training"},
    "faiss": {"index", "selection.duplicates"},
    "ray": {"runtime", "stages"},
}


def module_name(path: Path) -> str:
    """`clip/backbone.py` -> `clip.backbone`; a package is its own name."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}


def imports(path: Path, when_run: bool = False) -> set[str]:
    """The full names that a file imports, also within functions; with `when_run` only at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if when_run else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, roots: set[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def own(path: Path, when_run: bool = False) -> set[str]:
    """Modules of this package that a file imports."""
    names = {name.removeprefix("react_ray.") for name in imports(path, when_run) if name.startswith("react_ray.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} - {""}


def layer(module: str) -> int:
    return next(height for height, names in enumerate(LAYERS) if module.split(".")[0] in names)


@pytest.mark.parametrize("module", list(MODULES))
def test_a_module_imports_nothing_above_it(module: str) -> None:
    assert {name for name in own(MODULES[module]) if layer(name) > layer(module)} == set()


def floor(module: str) -> int:
    """Of a module of `stages`: the place of its folder in STAGES, or that of a verb."""
    name = module.split(".")[1]
    return STAGES.index(name) if name in STAGES else STAGES.index("a verb")


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("stages.")])
def test_the_parts_of_a_verb_import_no_verb_and_a_verb_no_other(module: str) -> None:
    other = [name for name in own(MODULES[module]) if name.startswith("stages.") and name != module]
    verb = floor(module) == STAGES.index("a verb")
    assert [name for name in other if floor(name) > floor(module) or (verb and floor(name) == floor(module))] == []


@pytest.mark.parametrize("library", list(MAY_IMPORT))
def test_a_library_has_its_one_importer(library: str) -> None:
    importers = {module for module, path in MODULES.items() if any(within(name, {library}) for name in imports(path))}
    assert {module for module in importers if not within(module, MAY_IMPORT[library])} == set()
    assert importers, f"{library} is imported by nobody: this test looks for something that is not there"


def test_no_module_needs_itself() -> None:
    graph = {module: own(path, when_run=True) - {module} for module, path in MODULES.items()}
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


def test_jobs_know_the_command_line_only() -> None:
    jobs = sorted((PACKAGE.parent / "jobs").glob("*.py"))
    assert jobs and {name for path in jobs for name in imports(path)} == {"sys", "react_ray.cli.main"}


LIGHT = """
import sys
import react_ray, react_ray.cli, react_ray.recipe
loaded = {"torch", "ray", "faiss", "open_clip", "deepspeed"} & set(sys.modules)
assert not loaded, f"a recipe can be read without {loaded}"
for name in ("ray", "deepspeed"):
    sys.modules[name] = None
import importlib
for name in sys.argv[1:]:
    importlib.import_module(f"react_ray.{name}")
assert "torch" in sys.modules
"""


def test_recipes_load_without_torch_and_all_that_computes_loads_without_ray_and_deepspeed() -> None:
    below = [module for module in MODULES if layer(module) <= LAYERS.index({"recipe"})]
    assert {"storage", "training.loss", "index.shard", "clip.backbone", "report.page", "recipe"} <= set(below)
    ended = subprocess.run([sys.executable, "-c", LIGHT, *below], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
