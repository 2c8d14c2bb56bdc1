"""verify: compares every byte below a URI with the receipts that were written with it. It changes nothing.

Takes one artifact, finished or not, or a folder of artifacts such as a database or a run. The files are hashed by
threads, since hashing and reading release Python's lock.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from react_ray.artifact import Artifact, Parts, kind_named, open_artifact, plan_of
from react_ray.draft import Draft
from react_ray.errors import ArtifactMissing, ReactRayError
from react_ray.index.deleted import FOLDER as DELETED
from react_ray.index.deleted import deleted_pairs
from react_ray.manifest import BUILDING, MANIFEST, Receipt, StoredFile, content_hash
from react_ray.metadata import parse_json, read_json_lines
from react_ray.progress import Progress
from react_ray.storage import Storage, join, open_storage
from react_ray.yaml_file import parse_yaml

T = TypeVar("T")
NUM_THREADS = 8
PIECE_BYTES = 4 << 20
RECEIPT = re.compile(r"part-(\d{5,})\.json")
OF_A_PART = re.compile(r"part-\d{5,}\.")


@dataclass
class Findings:
    """What lies below a URI. `wrong` has one line for each fault, which ends with what to do."""

    uri: str
    num_artifacts: int = 0
    num_parts: int = 0
    num_files: int = 0  # that were compared with a receipt
    num_bytes: int = 0  # of these
    num_others: int = 0  # files that no receipt covers: recipes, reports, checkpoints
    seconds: float = 0.0
    unfinished: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def summary(self) -> list[str]:
        rate = self.num_bytes / max(self.seconds, 1e-9) / 2**20
        lines = [
            f"{self.uri}: {self.num_artifacts:,} artifacts, {self.num_parts:,} parts; {self.num_files:,} files of "
            f"{self.num_bytes / 2**30:.2f} GB compared with their receipts in {self.seconds:.1f} s ({rate:,.0f} MB/s)"
        ]
        if self.num_others:
            lines.append(f"{self.num_others:,} files are covered by no receipt; those that are text can be parsed")
        lines += [f"unfinished: {line}" for line in self.unfinished]
        lines += [f"left over: {line}" for line in self.left_over]
        lines += [f"wrong: {line}" for line in self.wrong]
        return [*lines, f"{len(self.wrong):,} faults" if self.wrong else "all bytes are those that were committed"]

    def attempt(self, action: Callable[[], T]) -> T | None:
        """The value of an action, or None if it finds a fault."""
        try:
            return action()
        except ReactRayError as error:
            if str(error) not in self.wrong:
                self.wrong.append(str(error))
            return None


def verify(uri: str, num_threads: int = NUM_THREADS) -> Findings:
    """Compares all artifacts at and below a URI with what they say of themselves.

    Raises ArtifactMissing if there are none, StorageError if the place cannot be listed.
    """
    began = time.monotonic()
    storage = open_storage(uri)
    sizes, found = storage.sizes(), Findings(storage.uri)
    found.left_over = [
        f"{join(storage.uri, path)} of a write that was killed, or goes on now; delete it when no command runs"
        for path in storage.unfinished_writes()
    ]
    roots = {_split(path)[0] for path in sizes if _split(path)[1] in (MANIFEST, BUILDING) or _is_receipt(path)}
    if not roots:
        raise ArtifactMissing(f"{storage.uri}: no artifact here; name one, a database, or the folder of a run")
    covered: set[str] = set()
    with ThreadPoolExecutor(num_threads) as pool:
        jobs = [job for root in sorted(roots) for job in _artifact(storage, root, sizes, found, covered, pool)]
        with Progress("verify", len(jobs), "bytes", unit="files") as progress:
            for size, fault in pool.map(lambda job: job(), jobs):
                found.num_files, found.num_bytes = found.num_files + 1, found.num_bytes + size
                found.wrong += [fault] if fault else []
                progress.advance(size)
    _others(storage, sorted(sizes.keys() - covered), roots, found)
    found.seconds = time.monotonic() - began
    return found


def _artifact(
    storage: Storage, root: str, sizes: dict[str, int], found: Findings, covered: set[str], pool: ThreadPoolExecutor
) -> list[Callable[[], tuple[int, str]]]:
    """Checks what an artifact says of itself, and returns a job for each file that its receipts name."""
    place = storage.at(root) if root else storage
    names = {path.removeprefix(f"{root}/" if root else "") for path in sizes if not root or path.startswith(f"{root}/")}
    covered |= {join(root, name) if root else name for name in names & {MANIFEST, BUILDING}}
    found.num_artifacts += 1
    parts = found.attempt(partial(_open, place, names))
    numbers = sorted(int(match[1]) for name in names if (match := RECEIPT.fullmatch(name)))
    if parts is None:
        return []
    receipts = [one for one in pool.map(lambda part: found.attempt(partial(parts.receipt, part)), numbers) if one]
    found.num_parts += len(receipts)
    covered |= {f"{root}/part-{number:05d}.json".lstrip("/") for number in numbers}
    if isinstance(parts, Artifact):
        found.attempt(lambda: parts.facts)
        found.wrong += _disagreements(parts, receipts, set(numbers))
    else:
        found.unfinished.append(f"{parts.uri}, {len(numbers):,} of {parts.num_parts:,} parts are done")
    found.left_over += [
        f"{parts.uri}/part-{number:05d}.json is beyond the {parts.num_parts:,} parts; delete it"
        for number in numbers
        if number >= parts.num_parts
    ]
    jobs: list[Callable[[], tuple[int, str]]] = []
    for receipt in receipts:
        for name, stored in receipt.files.items():
            covered.add(f"{root}/{name}".lstrip("/"))
            jobs.append(partial(_compare, parts, receipt.part, name, stored, sizes.get(f"{root}/{name}".lstrip("/"))))
    return jobs


def _open(place: Storage, names: set[str]) -> Parts[Any]:
    """The artifact, or the draft of which some parts are done."""
    plan = plan_of(place.uri)
    if MANIFEST in names:
        artifact = open_artifact(place.uri)
        if plan and (plan["kind"], plan["parts"]) != (artifact.kind.name, artifact.num_parts):
            raise ArtifactMissing(
                f"{place.uri}: {BUILDING} and {MANIFEST} differ in kind or parts; delete {MANIFEST}, run the stage "
                "again"
            )
        return artifact
    if not plan:
        raise ArtifactMissing(
            f"{place.uri} has parts, and no {BUILDING} says what they were made of; delete that directory, run the "
            "stage again"
        )
    return Draft(place, kind_named(plan["kind"], place.uri), plan["parts"])


def _disagreements(artifact: Artifact[Any], receipts: list[Receipt], numbers: set[int]) -> Iterator[str]:
    """What a manifest states otherwise than its receipts."""
    missing = [part for part in range(artifact.num_parts) if part not in numbers]
    if missing:
        yield (
            f"{artifact.uri}: {len(missing):,} of {artifact.num_parts:,} receipts are gone, the first of part "
            f"{missing[0]}; delete {MANIFEST}, run the stage again"
        )
    counted = [receipt for receipt in receipts if receipt.part < artifact.num_parts]
    if len(counted) < artifact.num_parts:
        return  # a fault of its own
    for name in ("rows", "ok", "bytes"):
        total = sum(getattr(receipt, name) for receipt in counted)
        if total != getattr(artifact.manifest, name):
            stated = f"{getattr(artifact.manifest, name):,} {name}"
            yield f"{artifact.uri}/{MANIFEST} states {stated}, its receipts {total:,}; delete it, run the stage again"
    if content_hash(sorted(counted, key=lambda receipt: receipt.part)) != artifact.content:
        yield f"{artifact.uri}/{MANIFEST} states another content than its receipts; delete it, run the stage again"


def _compare(parts: Parts[Any], part: int, name: str, stored: StoredFile, size: int | None) -> tuple[int, str]:
    """The number of bytes that were read, and the fault or ""."""
    uri, remedy = f"{parts.uri}/{name}", parts.remedy(part)
    if size is None:
        return 0, f"{uri} is gone; {remedy}"
    if size != stored["bytes"]:
        return 0, f"{uri} has {size:,} bytes, not {stored['bytes']:,}; {remedy}"
    checksum, num_bytes = hashlib.sha256(), 0
    try:
        with parts.storage.stream(name) as file:
            while piece := file.read(PIECE_BYTES):
                checksum.update(piece)
                num_bytes += len(piece)
    except (ReactRayError, OSError) as error:
        return num_bytes, f"{uri} cannot be read ({error}); try again, or {remedy}"
    return num_bytes, "" if checksum.hexdigest() == stored["sha256"] else f"{uri} has a wrong checksum; {remedy}"


def _others(storage: Storage, paths: list[str], roots: set[str], found: Findings) -> None:
    """Files that no receipt names: parts whose writer was killed before its receipt, and what has no receipts."""
    for path in paths:
        folder, name = _split(path)
        if folder in roots and OF_A_PART.match(name):
            found.left_over.append(f"{join(storage.uri, path)} has no receipt; the stage will make it again")
            continue
        found.num_others += 1
        found.attempt(partial(_parse, storage, path))
    for folder in {_split(path)[0] for path in paths if path.endswith(".npy")}:
        if folder == DELETED or folder.endswith(f"/{DELETED}"):
            database = join(storage.uri, folder).removesuffix(f"/{DELETED}")
            found.attempt(partial(deleted_pairs, database))


def _parse(storage: Storage, path: str) -> None:
    uri, remedy = join(storage.uri, path), "delete it, or write it again"
    if path.endswith(".json"):
        parse_json(storage.read(path), uri, remedy)
    elif path.endswith(".jsonl"):
        read_json_lines(storage, path, dict[str, Any], remedy)
    elif _split(path)[1] == "recipe.yaml":
        parse_yaml(storage.read(path), uri, remedy)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _is_receipt(path: str) -> bool:
    return RECEIPT.fullmatch(_split(path)[1]) is not None
