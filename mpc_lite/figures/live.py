"""Is somebody sitting before this notebook?"""

import os
import sys


def live() -> bool:
    """True in Colab, Jupyter and VS Code; False where a notebook is only executed (papermill, the book's build).

    Jupyter's server names the session to its kernels, VS Code leaves a variable in the notebook; the tools that execute
    notebooks do neither.
    """
    if "google.colab" in sys.modules or "JPY_SESSION_NAME" in os.environ:
        return True
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns
