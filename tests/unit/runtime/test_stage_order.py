"""Where a run begins and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from react_ray.errors import ConfigError
from react_ray.runtime.stage_order import STAGES, answered, stages_of
from tests.unit.runtime.test_preflight import recipe

SET = "evaluate.datasets.test=sample://test.parquet"


@pytest.mark.parametrize(
    ("overrides", "first", "last", "expected"),
    [
        ((SET,), "", "", STAGES),
        ((), "", "", tuple(stage for stage in STAGES if stage != "evaluate")),
        ((SET,), "", "retrieve", ("ingest", "download", "embed", "index", "retrieve")),
        ((SET,), "retrieve", "retrieve", ("retrieve",)),
        ((SET,), "customize", "", ("customize", "evaluate", "report")),
        ((SET, "retrieve.search=exact"), "embed", "index", ("embed",)),
        ((SET, "download.fused=true"), "", "embed", ("ingest", "embed")),
        ((SET, "download.of=retrieved", "embed.images=false"), "index", "customize",
         ("index", "retrieve", "download", "customize")),
        ((), "", "evaluate", ("ingest", "download", "embed", "index", "retrieve", "customize")),
    ],
)  # fmt: skip
def test_a_run_goes_through_the_stages_of_its_recipe(
    tmp_path: Path, overrides: tuple[str, ...], first: str, last: str, expected: tuple[str, ...]
) -> None:
    assert tuple(stages_of(recipe(tmp_path, *overrides), first, last)) == expected


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("", "retreive", "--until retreive: no such stage; did you mean retrieve?"),
        ("everything", "", "--from everything: no such stage; name one of ingest, download"),
        ("customize", "embed", "--from customize comes after --until embed; the order is ingest, download, embed"),
        ("evaluate", "evaluate", "this recipe leaves evaluate out, so there is nothing to run; name another stage"),
    ],
)
def test_stages_that_cannot_be_meant_are_one_line(tmp_path: Path, first: str, last: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        stages_of(recipe(tmp_path), first, last)
    assert said in str(caught.value)


def test_a_run_that_has_not_begun_has_no_answer(tmp_path: Path) -> None:
    wanted = recipe(tmp_path)
    assert answered(wanted, stages_of(wanted)) is None and not (tmp_path / "run").exists()
