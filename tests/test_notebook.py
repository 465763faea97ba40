"""The tutorial's notebook runs from top to bottom, and the scripts run in cells of a notebook."""

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from pages import Page

INTERRUPT = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    time.sleep(2)  # a script of its own would have ended by now
    print("interrupted, and goes on")
"""
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


def execute(notebook, folder):
    """Run all cells in a folder; an error in a cell is raised here."""
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    return notebook


def printed(cell):
    return "".join(one.text for one in cell.outputs if one.get("name") == "stdout")


def test_the_committed_notebook_is_valid_and_holds_no_output():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 8
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.long
def test_the_tutorial_shows_a_perfect_score_and_takes_it_apart():
    before = sorted(ROOT.iterdir())
    notebook = execute(nbformat.read(TUTORIAL, as_version=4), TUTORIAL.parent)
    assert sorted(ROOT.iterdir()) == before
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    shown = [one.data["text/html"] for one in outputs if "text/html" in one.get("data", {})]
    tables = [Page(f"<table><caption>a</caption></table>{html}").table("a")[1:] for html in shown]
    first, lungs = map(dict, tables[:2])
    assert first["cross-validated"].startswith("1.00")
    assert float(first["reference's lungs, own chest"][:4]) > 0.98
    assert float(first["best shortcut, thumbnail"][:4]) > 0.8
    assert float(lungs["reference's lungs, own chest"][:4]) < 0.6
    for elsewhere, lowest, highest in ((tables[2], 0.4, 0.65), (tables[3], 0.95, 1)):
        (_, _, at_c, _), (_, _, at_d, rate) = elsewhere
        assert float(at_c[:4]) > 0.95 and lowest <= float(at_d[:4]) <= highest
        assert (0.4 <= float(rate[:4]) <= 0.6) == (highest < 1)
    text = "".join(map(printed, (cell for cell in notebook.cells if cell.cell_type == "code")))
    assert "auc within strata of site and view: not defined" in text
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 3


@pytest.mark.long
def test_every_script_runs_in_a_cell(tmp_path):
    runs = (
        "make_demo_dataset.py -s 6 -o set",
        "audit_dataset.py -d set",
        "train_covid19.py -d set --folds 2 --repeats 1",
        "evaluate_covid19.py -m covid19.keras -d set --transplant 0",
        "predict_covid19.py -m covid19.keras set/covid",
        "build_covid_dataset.py --help",
        "build_external_dataset.py --help",
        "sample_kaggle_dataset.py --help",
    )
    scripts = {path.name for path in ROOT.glob("*.py")} - {"app_covid19.py"}  # a page of streamlit
    assert {run.split()[0] for run in runs} == scripts
    magics = [f"%run {ROOT}/{run}" for run in runs]
    shell = [f"import sys\n!{{sys.executable}} {ROOT}/{run}\nprint(_exit_code)" for run in runs]
    cells = [nbformat.v4.new_code_cell(code) for code in (*magics, *shell, INTERRUPT)]
    notebook = execute(nbformat.v4.new_notebook(cells=cells), tmp_path)
    texts = [printed(cell) for cell in notebook.cells]
    assert texts.pop() == "interrupted, and goes on\n"
    for said in (texts[: len(runs)], texts[len(runs) :]):
        assert "drawings of" in said[0]
        assert "baseline" in said[1]
        assert "cv auc:" in said[2]
        assert "TRAINED ON:" in said[3]
        assert "drawn-covid" in said[4]
        assert all("usage:" in one for one in said[5:])
    assert [text.split()[-1] for text in texts[len(runs) :]] == ["0"] * len(runs)
