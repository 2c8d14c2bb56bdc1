"""No request that follows from the description of the API, or that breaks it, ends in a fault of the server.

Schemathesis reads /openapi.json of a server on loopback, makes valid and invalid requests of every route, and compares
the answers with the description.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.searchable import ANIMALS, many, png, write_index, write_searchable
from tests.support.served_page import listening
from tests.support.serving import serving_recipe

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
FEWEST_REQUESTS = 500


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri, parts = str(tmp_path / "database"), [ANIMALS + many(120), many(116, 200)]
    write_searchable(uri, parts, png(tmp_path))
    write_index(uri, num_shards=2)
    return uri


def test_thousands_of_requests_are_answered_as_described(uri: str) -> None:
    with listening(serving_recipe(uri)) as address:
        asked = ["run", f"{address}/openapi.json", "--checks", CHECKS, "--continue-on-failure", "--no-color"]
        asked += ["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--generation-deterministic"]
        asked += ["--request-timeout", "60", "--warnings", "off"]
        tool = Path(sys.executable).with_name("schemathesis")
        done = subprocess.run([tool, *asked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    [made] = re.findall(r"([\d,]+) generated", done.stdout)
    assert int(made.replace(",", "")) >= FEWEST_REQUESTS, done.stdout[-1000:]
