"""doctor finds what would stop a run, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from react_ray.cli import main
from react_ray.runtime.doctor import packages, shared_memory


def test_versions_are_compared_with_what_the_package_requires() -> None:
    def said(*requirements: str) -> list[tuple[str, str]]:
        return [(one.state, f"{one.said}; {one.remedy}") for one in packages(list(requirements))]

    assert said("numpy>=1", "pytest", 'nothing>=1; extra == "dev"') == [("ok", "all 2 have versions that fit; ")]
    found = said("numpy>=99", "no-such-package>=1")
    assert [state for state, _ in found] == ["problem", "problem"]
    assert "is not >=99; run `pip install 'numpy>=99'`" in found[0][1]
    assert found[1][1] == "no-such-package is missing; run `pip install 'no-such-package>=1'`"


def test_either_kind_of_faiss_will_do() -> None:
    assert [one.state for one in packages(["faiss-gpu>=1", "faiss-cpu>=1"])] == ["ok"]


def test_a_small_shared_memory_names_the_options(tmp_path: Path) -> None:
    assert shared_memory(0.001, str(tmp_path)).state == "ok"
    for finding in (shared_memory(1e6, str(tmp_path)), shared_memory(0.5, f"{tmp_path}/gone")):
        assert finding.state == "warning" and "--shm-size" in finding.remedy and "object_store_gb" in finding.remedy


def test_the_command_counts_and_its_exit_code_says_whether_there_are_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(
        "backbone: {name: ViT-B-32}\ningest: {source: sample://}\ntasks: {class_names: [heron]}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["doctor", f"{tmp_path}/r.yaml", "out=/proc/self/run", "database=/tmp/x", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1 and found["problems"] >= 1
    [out] = [one for one in found["findings"] if one["what"] == "out"]
    assert out["state"] == "problem" and out["remedy"]
    with pytest.raises(SystemExit) as ended:
        main(["doctor", f"{tmp_path}/r.yaml", "out=/proc/self/run"])
    out_text = capsys.readouterr().out
    assert "\nproblem  out        " in out_text and "\nproblems: " in out_text
