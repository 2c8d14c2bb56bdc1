"""The demo in miniature (the real sample, a tiny CLIP, a few steps), and functions that run, kill and compare it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from react_ray.storage import open_storage

ARTIFACTS = ("pairs", "images", "embeddings", "index")
AGENT = re.compile(r"^ray::\w+Agent|/agent\.py |/agent/main\.py ")
ARMS = ("random", "other", "gated_image")
TINY_CLIP = str(Path(__file__).with_name("tiny_clip.json"))
OTHER_CLIP = str(Path(__file__).with_name("other_clip.json"))  # another text tower, other pixels


def small_recipe(folder: Path, **changes: Any) -> str:
    """Path of a recipe: 1,200 pairs in 6 parts, two tasks, arms of 12, 12 and 48 steps, a checkpoint every 4."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "name": "small",
        "database": str(folder / "database"),
        "out": str(folder / "run"),
        "tasks": {"file": "sample://tasks.json", "names": ["weather", "food"]},
        "backbone": {"name": TINY_CLIP, "pretrained": "random"},
        "ingest": {"source": "sample://pool.parquet", "max_rows": 1200, "rows_per_part": 200},
        "embed": {"batch_size": 64},
        "index": {"num_shards": 2},
        "retrieve": {"keys": ["image", "text"], "k": 8},
        "customize": {
            "last_k_layers": 2,
            "epochs": 0.8,
            "batch_size": 64,
            "lr": 1e-3,
            "warmup_steps": 2,
            "augment": {"translate": 0.1, "brightness": 0.2},
            "num_workers": 2,
            "checkpoint_every_steps": 4,
        },
        "evaluate": {"datasets": {"test": "sample://test.parquet"}},
        "cluster": {"num_cpus": 2, "object_store_gb": 0.2, "threads_per_actor": 1},
        "arms": {
            "random": {"retrieve.selection": "random"},
            "other": {
                "customize.method": "locked-text",
                "customize.backbone": {"name": OTHER_CLIP, "pretrained": "random"},
            },
            "gated_image": {"customize.epochs": 3.2},
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values | changes, sort_keys=False))
    return str(path)


def command(verb: str, recipe: str, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "react_ray.cli", verb, recipe, *overrides]


def react_ray(verb: str, recipe: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Run one verb as a user does; its output is kept."""
    return subprocess.run(
        command(verb, recipe, *overrides), capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def kill_when(
    recipe: str, reached: Callable[[], bool], *overrides: str, verb: str = "run", everything: bool = False
) -> str:
    """Start a whole run, or one verb, and SIGKILL its driver as soon as `reached()`. Returns what it wrote to stderr.

    A run that ends before is a failure.

    everything: kill all its workers at the same moment, as when a machine loses power. Otherwise the function returns
    when they are gone: they notice the kill after some seconds, and commit the parts that they were working on. Ray's
    agents (dashboard, runtime environments) take a minute more to notice, and touch nothing.
    """
    with tempfile.TemporaryFile("w+") as said:
        driver = subprocess.Popen(command(verb, recipe, *overrides), stdout=subprocess.DEVNULL, stderr=said)
        while not reached():
            assert driver.poll() is None, f"the run ended (exit code {driver.returncode}) before it could be killed"
            try:
                driver.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                continue
        below = [p for p in psutil.Process(driver.pid).children(recursive=True) if not _is_agent(p)]
        driver.send_signal(signal.SIGKILL)
        for process in below if everything else ():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        driver.wait()
        _, alive = psutil.wait_procs(below, timeout=300)
        assert not alive, f"still running after their driver: {alive}"
        said.seek(0)
        return said.read()


def _is_agent(process: psutil.Process) -> bool:
    try:
        return AGENT.search(" ".join(process.cmdline()).strip()) is not None
    except psutil.NoSuchProcess:
        return True


def contents(database: str, out: str) -> dict[str, str]:
    """Content hash of every artifact of a run, by its place."""
    found = {}
    for root, uri in (("database", database), ("run", out)):
        storage = open_storage(uri)
        for path in storage.list():
            if path.endswith("manifest.json"):
                found[f"{root}/{path.rpartition('/')[0]}"] = json.loads(storage.read(path))["content"]
    return found
