"""The notebook in examples runs from its first cell to its last, and shows tables and a picture."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook" / "joint_job.ipynb"


@pytest.mark.pages
@pytest.mark.timeout(240)
def test_the_notebook_runs_and_shows_what_it_promises(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without what a run left in it"
    client = nbclient.NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parents[2])}}
    )
    client.execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert any("Nodes of notebook" in table and "br-1" in table for table in tables)
    assert any("Submission" in table and ">created<" in table for table in tables)
    job = next(table for table in tables if "job/digits" in table)
    assert ">finished<" in job
    assert "4 of 4" in job
    assert any("image/png" in data for data in shown)
    assert any("consents" in data.get("text/plain", "") for data in shown), "what the release was checked for"
