"""Door: sources of pairs in every container, valid, hostile and damaged.

A valid source in any of its usual forms gives exactly its pairs. A hostile one is refused in one line, or gives or
counts every pair: none is lost in silence. A source that can be read gives the same rows in parts of any size.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tests.campaign.case import Case, Wrong, check, must_work
from tests.campaign.damage import damaged
from tests.campaign.source_columns import columns, hostile_columns, vectors
from tests.campaign.source_folders import folder_of_images, hostile_folder
from tests.campaign.source_tables import delimited, hostile_text, rows_of_json, urls
from tests.campaign.source_tars import hostile_tar, tar
from tests.campaign.source_truth import MANY_ROWS, Found, Made, difference, read, wanted

Make = Callable[[Path, random.Random], Made]
VALID: dict[Make, int] = {tar: 3, folder_of_images: 3, delimited: 3, rows_of_json: 2, urls: 1, columns: 4, vectors: 1}
HOSTILE: dict[Make, int] = {hostile_tar: 3, hostile_folder: 2, hostile_text: 4, hostile_columns: 4}  # weights
SMALL, LARGE = 7, 2048  # rows per part


def run(case: Case) -> str:
    rng = case.rng()
    kind = rng.choices(("valid", "hostile", "bytes"), (3, 4, 3))[0]
    makers = HOSTILE if kind == "hostile" else VALID
    made = rng.choices(list(makers), list(makers.values()))[0](case.folder / "source", rng)
    try:
        if kind == "valid":
            return _check_valid(made)
        if kind == "bytes":
            how = _damage_a_file(case.folder / "source", rng)
            made = Made(made.source, f"{made.how}; {how}", [], config=made.config)
        return _check_hostile(made)
    except Wrong as error:
        raise Wrong(f"{error}  [{made.how}]") from error


def _check_valid(made: Made) -> str:
    with must_work(made.how.partition(":")[0]):
        found = read(made, SMALL)
        again = read(made, LARGE)
    _check_same(found, again)
    if differs := difference(found.pairs, wanted(made.pairs), made.is_ordered):
        raise Wrong(f"{made.how.partition(':')[0]}: {differs}; seen: {found.source.seen.lines()}")
    return f"{made.how}: {len(found.pairs)} rows"


def _check_hostile(made: Made) -> str:
    found = read(made, LARGE)
    if found.source.num_rows <= MANY_ROWS:
        _check_same(found, read(made, SMALL))
    accounted = found.source.num_rows + found.num_passed
    check(accounted >= len(made.pairs), f"{accounted} rows read or counted, and there are {len(made.pairs)}")
    if not found.source.has_images and not found.source.has_vectors and "txt" not in made.how:
        counted = found.source.seen.num_unusable
        check(found.num_bad <= counted, f"{found.num_bad} rows have no URL, and {counted} are counted")
    return f"{made.how}: {len(found.pairs)} rows, {found.source.seen.lines()}"


def _check_same(found: Found, again: Found) -> None:
    one, other = pa.concat_tables(found.tables), pa.concat_tables(again.tables)
    check(one.schema == other.schema, f"the columns depend on the size of parts: {one.schema} and {other.schema}")
    check(_plain(one) == _plain(other), "the rows depend on the size of parts")


def _plain(table: pa.Table) -> str:
    """As text, in which NaN equals NaN."""
    return repr([column.to_pylist() for column in table.columns])


def _damage_a_file(folder: Path, rng: random.Random) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    data, how = damaged(path.read_bytes(), rng, rng.choice(files).read_bytes())
    path.write_bytes(data)
    return f"{path.name} with {how}"
