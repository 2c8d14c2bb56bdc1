"""A set's name becomes a folder, a column and a word in messages."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from react_ray.evals.config import EvaluateConfig


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "\u202eb", "x" * 81])
@pytest.mark.parametrize("field", ["datasets", "captions", "segmentation", "detection"])
def test_a_name_that_can_be_no_folder_is_refused(field: str, name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be the name of a set; write a short name of letters"):
        EvaluateConfig.model_validate({field: {name: "set.parquet"}})


def test_other_names_stay(name: str = "../Größe/a b.c") -> None:
    assert EvaluateConfig(datasets={name: "set.parquet"}).datasets == {name: "set.parquet"}
