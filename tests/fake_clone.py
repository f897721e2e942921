"""A notebook with the parameters that the runner expects, and cells of the test's own."""

import nbformat

PARAMETERS = """PROFILE: str = "lite"  # scale
SEED: int = 0  # seed
DEVICE: str = "auto"  # device
OUT: str = "runs/x"  # folder
RESUME: bool = False  # go on
PARAMETERS: dict = {}  # recipe values
ROWS: int = 3  # of this notebook alone
SHARE: float = 0.5  # of this notebook alone"""


def write_notebook(path, *cells, parameters=PARAMETERS):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in (parameters, *cells)]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path
