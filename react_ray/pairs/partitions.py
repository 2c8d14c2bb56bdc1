"""Reads columns from folder names: `lang=en/part-0.parquet`, as Hive, Spark and pandas write partitioned tables."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pyarrow as pa

from react_ray.uri import absolute, split_glob

FOLDER = re.compile(r"([^=/]+)=([^/]*)/")
NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_of(uri: str, source: str) -> dict[str, str | None]:
    """Returns the columns that the folders between the source and one of its files name, with their values."""
    below = uri.removeprefix(split_glob(source)[0]) if uri != absolute(source) else ""
    found = {unquote(name): unquote(value) for name, value in FOLDER.findall(below)}
    return {name: None if value == NULL else value for name, value in found.items()}


def with_partition(table: pa.Table, partition: dict[str, str | None]) -> pa.Table:
    """Returns the table with the columns that it does not have itself, all of their rows alike."""
    for name, value in partition.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
    return table
