"""doctor: looks whether this machine, and what a recipe names, can do the work; each finding says what to do.

Nothing is started, and nothing is left behind. A check that waits for somebody else has a bounded time.
Takes a Recipe or None, gives findings in the order in which a user would mend them. This file imports neither Ray nor
torch.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from react_ray.recipe import ClusterConfig, Recipe
from react_ray.runtime.finding import Finding
from react_ray.runtime.reachable import inputs, place, ray_cluster

DISTRIBUTION = "react_ray"
ALIKE = ("faiss-gpu", "faiss-cpu")  # one of them is enough
SMI_S = 20.0
TORCH_S = 90.0  # to import torch on a machine that has not read it yet
FEW_GB, LITTLE_GB = 2.0, 4.0  # of memory; the demo takes 5 at most, and 4 with little else at work
FEW_FILES = 4096  # open files; Ray and the downloader hold some thousand
SEES_GPU = "import torch; print(torch.cuda.device_count(), torch.version.cuda or 'a build without CUDA')"


def examine(recipe: Recipe | None) -> Iterator[Finding]:
    """Yields each finding as soon as it is known."""
    cluster = recipe.cluster if recipe else ClusterConfig()
    yield python()
    yield from packages()
    yield from programs()
    yield memory()
    yield cores()
    yield shared_memory(cluster.object_store_gb)
    yield open_files()
    yield gpu()
    yield from ray_cluster(cluster.address or os.environ.get("RAY_ADDRESS", ""))
    places = {"out": recipe.out, "database": recipe.database} if recipe else {"here": os.getcwd()}
    for name, uri in places.items():
        yield place(name, uri)
    if recipe:
        yield from inputs(recipe)


def python() -> Finding:
    version, wanted = platform.python_version(), _requires_python()
    if wanted.contains(version, prereleases=True):
        return Finding("python", "ok", version)
    return Finding("python", "problem", f"{version} is not {wanted}", f"make the environment with Python {wanted}")


def packages(requirements: list[str] | None = None) -> Iterator[Finding]:
    """requirements: as pip writes them; None = those of this package."""
    if requirements is None:
        try:
            requirements = metadata.requires(DISTRIBUTION) or []
        except metadata.PackageNotFoundError:
            yield Finding(
                "packages",
                "warning",
                f"{DISTRIBUTION} is not installed, so its requirements are not known",
                "run `pip install -e .` in its folder",
            )
            return
    wanted = [one for one in map(Requirement, requirements) if one.marker is None or one.marker.evaluate({"extra": ""})]
    there = [(one, _version(one.name)) for one in wanted]
    wrong = [(one, found) for one, found in there if not (found and one.specifier.contains(found, prereleases=True))]
    for one, found in wrong:
        said = f"{one.name} {found} is not {one.specifier}" if found else f"{one.name} is missing"
        yield Finding("packages", "problem", said, f"run `pip install '{one.name}{one.specifier}'`")
    if not wrong:
        yield Finding("packages", "ok", f"all {len(wanted)} have versions that fit")


def programs() -> Iterator[Finding]:
    """Of those that DeepSpeed compiles with, where it has to."""
    missing = [name for name in ("gcc", "ninja") if not shutil.which(name)]
    if not missing:
        yield Finding("programs", "ok", "gcc and ninja are there")
    of_environment = f"activate the environment, or put {Path(sys.executable).parent} on PATH"
    for name in missing:
        said = f"{name} is not on PATH, and DeepSpeed compiles with it"
        yield Finding("programs", "warning", said, of_environment if name == "ninja" else "install it")


def memory() -> Finding:
    free_gb, limit_gb = psutil.virtual_memory().available / 2**30, _container_limit_gb()
    within = f", {limit_gb:.1f} GB is the limit of this container" if limit_gb else ""
    said = f"{free_gb:.1f} GB of {psutil.virtual_memory().total / 2**30:.1f} GB are free{within}"
    usable_gb = min(free_gb, limit_gb or free_gb)
    if usable_gb >= LITTLE_GB:
        return Finding("memory", "ok", said)
    return Finding(
        "memory", "problem" if usable_gb < FEW_GB else "warning", said, "end other programs, or use a larger machine"
    )


def cores() -> Finding:
    count = len(os.sched_getaffinity(0))
    if count > 1:
        return Finding("cores", "ok", str(count))
    return Finding("cores", "warning", "1", "set customize.num_workers=1 and cluster.threads_per_actor=1")


def shared_memory(wanted_gb: float, folder: str = "/dev/shm") -> Finding:
    """wanted_gb: cluster.object_store_gb, for which a Ray of this machine takes shared memory."""
    free_gb = psutil.disk_usage(folder).free / 2**30 if os.path.isdir(folder) else 0.0
    said = f"{free_gb:.1f} GB free in {folder}, Ray's objects take {wanted_gb:g} GB"
    if free_gb >= wanted_gb:
        return Finding("shm", "ok", said)
    remedy = f"give the container more (docker run --shm-size={wanted_gb + 1:.0f}g), or lower cluster.object_store_gb"
    return Finding("shm", "warning", f"{said}, and go to the disk instead, which is slow", remedy)


def open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return Finding("files", "ok", f"{'any number of' if soft == resource.RLIM_INFINITY else soft} open files")
    return Finding("files", "warning", f"{soft} open files at most", "run `ulimit -n 65536` in the shell first")


def gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    listed = _output([program, "--query-gpu=name,memory.total", "--format=csv,noheader"], SMI_S) if program else ""
    names = [line.strip() for line in listed.splitlines() if "," in line]
    if not names:
        return Finding("gpu", "ok", "none was found: models run on the processor")
    seen = _output([sys.executable, "-c", SEES_GPU], TORCH_S)
    if seen.split(" ")[0] == str(len(names)):
        return Finding("gpu", "ok", f"{'; '.join(names)}; set cluster.gpus_per_actor and customize.gpus_per_worker")
    said = f"{'; '.join(names)}, but torch ({seen.partition(' ')[2].strip() or 'it cannot be imported'}) sees "
    return Finding(
        "gpu",
        "problem",
        f"{said}{seen.split(' ')[0] or 'none'} of {len(names)}",
        "install the torch that fits the driver (pytorch.org), and look at CUDA_VISIBLE_DEVICES",
    )


def _requires_python() -> SpecifierSet:
    try:
        return SpecifierSet(metadata.metadata(DISTRIBUTION)["Requires-Python"] or ">=3.10")
    except metadata.PackageNotFoundError:
        return SpecifierSet(">=3.10")


def _version(name: str) -> str:
    """The version that is installed; "" if it is not."""
    for one in ALIKE if name in ALIKE else (name,):
        try:
            return metadata.version(one)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _container_limit_gb() -> float:
    """0 = there is no limit."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return 0.0
    return int(limit) / 2**30 if limit.isdecimal() else 0.0


def _output(command: list[str], timeout_s: float) -> str:
    """What a program prints; "" if it fails or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
