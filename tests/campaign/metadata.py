"""Door: what the product wrote itself, and then a disk, an editor or another version changed.

Every reader of a finished run has to give what was written or to refuse in one line, whatever one file of the run has
become; `verify` has to find the file where a reader would get other values.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from react_ray.artifact import Artifact, Parts, open_artifact, plan_of
from react_ray.draft import create, open_unfinished
from react_ray.errors import ReactRayError
from react_ray.index.deleted import deleted_pairs
from react_ray.kinds import IMAGES, KINDS, PAIRS
from react_ray.pairs.stats import stats
from react_ray.progress import Metrics
from react_ray.runtime import preflight
from react_ray.stages.reporting.summary import costs_of, read_summary
from react_ray.stages.training.checkpoints import Checkpoints
from react_ray.stages.verify import verify
from react_ray.storage import open_storage
from tests.campaign import hostile
from tests.campaign.case import Case, Wrong, check, complaint_about
from tests.campaign.damage import damaged
from tests.campaign.metadata_seeds import DIGEST, finished_run, open_recipe

ARTIFACTS = {
    "database/pairs": "pairs",
    "database/images": "images",
    "database/embeddings": "embeddings",
    "database/index": "index",
    "run/images": "images",
    "run/scores": "predictions",
}  # place -> kind
NOT_KNOWN = "hosts: not known"  # what `stats` says where the list of URLs is gone
EDITABLE = ("metrics", "the costs", "the summary of another run")  # plain files of numbers, which people may edit
Reader = Callable[[Path], Any]


def run(case: Case) -> str:
    rng = case.rng()
    folder = case.folder / "copy"
    shutil.copytree(finished_run(), folder)
    path, how = _change(folder, rng)
    refusals = _verified(folder, path, how)
    for name, reader in READERS.items():
        try:
            found = repr(reader(folder))
        except ReactRayError as error:
            complaint = complaint_about(str(error))
            check(not complaint, f"{complaint}: {name} of {how}: {str(error)[:300]!r}")
            refusals.append(name)
        except Wrong:
            raise
        except Exception as error:
            error.__notes__ = [f"{name} after {how}"]  # type: ignore[attr-defined]
            raise
        else:
            may_differ = name in EDITABLE or NOT_KNOWN in found
            check(may_differ or found == _right(name), f"{name} gives other values after {how}")
    return f"{how}; refused by {', '.join(refusals) or 'nobody'}"


def _verified(folder: Path, path: Path, how: str) -> list[str]:
    """Calls `verify`, which has to find every changed byte of a part."""
    original = finished_run() / path.relative_to(folder)
    is_same = path.is_file() and path.read_bytes() == original.read_bytes()
    try:
        found = verify(str(folder))
    except ReactRayError as error:
        check(not complaint_about(str(error)), f"{complaint_about(str(error))}: verify: {error}")
        return ["verify"]
    for line in found.wrong:
        check(not complaint_about(line), f"{complaint_about(line)}: verify: {line[:300]!r}")
    if path.suffix in (".parquet", ".faiss"):
        check(is_same == (not found.wrong), f"verify finds {found.wrong or 'nothing'} after {how}")
    return ["verify"] if found.wrong else []


@cache
def _right(name: str) -> str:
    return repr(READERS[name](finished_run()))


def _change(folder: Path, rng: random.Random) -> tuple[Path, str]:
    """Changes one file; returns its path, and what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "recipe.yaml")
    texts = [path for path in files if path.suffix in (".json", ".yaml", ".jsonl")]
    path = rng.choice(texts if rng.random() < 0.75 else files)
    name = str(path.relative_to(folder))
    kind = rng.choice(("bytes", "bytes", "field", "field", "field", "text", "other", "whole"))
    if kind == "whole":
        return path, f"{name} {_whole(path, rng)}"
    if kind == "other":
        other = rng.choice([one for one in files if one.suffix == path.suffix and one != path] or files)
        shutil.copyfile(other, path)
        return path, f"{other.relative_to(folder)} in the place of {name}"
    if path not in texts or kind == "bytes":
        data, how = damaged(path.read_bytes(), rng, rng.choice(files).read_bytes())
        path.write_bytes(data)
        return path, f"{name} with {how}"
    if kind == "text":
        return path, f"{name} with {_odd_text(path, rng)}"
    values = yaml.safe_load(path.read_text().splitlines()[0] if path.suffix == ".jsonl" else path.read_text())
    changed, how = hostile.changed(values, rng)
    path.write_text(yaml.safe_dump(changed) if path.suffix == ".yaml" else json.dumps(changed), errors="replace")
    return path, f"{name}: {how}"


def _whole(path: Path, rng: random.Random) -> str:
    """Does something to a file as a whole."""
    how = rng.choice(("is gone", "is empty", "is a folder", "is a broken link", "is UTF-16", "has a mark", "is blank"))
    data = path.read_bytes()
    path.unlink()
    if how == "is a folder":
        path.mkdir()
    elif how == "is a broken link":
        path.symlink_to(path.with_name("nowhere"))
    elif how != "is gone":
        text = data.decode("latin-1")
        made = {"is empty": b"", "is UTF-16": text.encode("utf-16"), "has a mark": b"\xef\xbb\xbf" + data}
        path.write_bytes(made.get(how, b" \n\t\n"))
    return how


def _odd_text(path: Path, rng: random.Random) -> str:
    """Puts text that is hard to parse in the place of a value, or of everything."""
    odd = hostile.text(rng)
    lines = path.read_text().split("\n")
    at = rng.randrange(len(lines))
    lines[at] = f"{lines[at].partition(':')[0]}: {odd}," if ":" in lines[at] and rng.random() < 0.8 else odd
    path.write_text("\n".join(lines) if rng.random() < 0.8 else odd, errors="replace")
    return f"{odd[:20]!r}"


def _manifest(uri: str) -> Reader:
    def read(folder: Path) -> Any:
        artifact = open_artifact(str(folder / uri), KINDS[ARTIFACTS[uri]])
        return artifact.kind.name, asdict(artifact.facts), artifact.content, artifact.rows, artifact.num_parts

    return read


def _tables(uri: str) -> Reader:
    def read(folder: Path) -> Any:
        return list(_contents(open_unfinished(str(folder / uri))))

    return read


def _contents(parts: Parts[Any]) -> Iterator[Any]:
    for part in parts.done():
        receipt = parts.receipt(part)
        yield receipt
        for name in receipt.files:
            yield parts.read(part).to_pylist() if name.endswith(".parquet") else parts.read_file(part, name)


def _resumed(folder: Path) -> Any:
    """Goes on with the images of the run, whose middle part is done."""
    pairs: Artifact[Any] = open_artifact(str(folder / "database/pairs"), PAIRS)
    draft = create(str(folder / "run/images"), IMAGES, {"resize_mode": "no"}, {"pairs": pairs}, pairs.num_parts)
    return draft.pending(), draft.sealed, plan_of(draft.uri)["parts"]


def _metrics(folder: Path) -> Any:
    metrics = Metrics(open_storage(str(folder / "run")), "model")
    metrics.drop_after(1)
    return metrics.rows()


def _checkpoint(folder: Path) -> Any:
    checkpoints = Checkpoints(open_storage(str(folder / "run/checkpoints")), DIGEST, 2)
    step = checkpoints.newest()
    return step, {name: value.tolist() for name, value in checkpoints.load(step).items()} if step else {}


def _begun(folder: Path) -> None:
    recipe = open_recipe(folder)
    preflight.begin(recipe, "evaluate")


READERS: dict[str, Reader] = {
    **{f"manifest of {uri}": _manifest(uri) for uri in ARTIFACTS if uri != "run/images"},
    **{f"parts of {uri}": _tables(uri) for uri in ARTIFACTS},
    "a resumed draft": _resumed,
    "stats": lambda folder: stats(str(folder / "database/images")).partition("\n")[2],
    "the costs": lambda folder: vars(costs_of(open_storage(str(folder / "run")))),
    "the summary of another run": lambda folder: read_summary(str(folder / "run")),
    "metrics": _metrics,
    "a checkpoint": _checkpoint,
    "deleted pairs": lambda folder: deleted_pairs(str(folder / "database")).tolist(),
    "the recipe of the run": _begun,
}
