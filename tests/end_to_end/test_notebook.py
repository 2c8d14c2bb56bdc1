"""examples/first_hour.ipynb runs from its first cell to its last, and is stored without outputs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[2] / "examples/first_hour.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_stored_without_outputs(notebook: nbformat.NotebookNode) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and not any(cell.outputs or cell.execution_count for cell in cells)


def test_it_runs_to_its_end(notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{NOTEBOOK.parents[1]}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    failure = ""
    try:
        client.execute()
    except CellExecutionError as error:  # of a cell that needs what a command above it has made
        failure = str(error)
    said = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    assert not failure, f"{said}\n{failure}"
    assert (tmp_path / "runs/animals/gallery.html").exists(), said
    assert "accordion" in said and "cat" in said
