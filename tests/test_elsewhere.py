"""The names of the machine that no report may tell are really told to whoever asks."""

import subprocess
import sys

from tests.elsewhere import FOLDER, HOST, USER, elsewhere, names_in

ASK = """
import getpass, os, platform, socket
from pathlib import Path
uname = getattr(os, "uname", platform.uname)()
print(socket.gethostname(), platform.node(), uname[1], getpass.getuser(), Path.home(), sep="\\n")
"""


def test_whoever_asks_here_or_in_a_child_process_is_told_the_names(tmp_path_factory, capsys):
    with elsewhere(tmp_path_factory.mktemp(FOLDER)):
        child = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout
        exec(ASK, {})
        here = capsys.readouterr().out
    assert here == child
    assert [line if FOLDER not in line else FOLDER for line in here.splitlines()] == [HOST, HOST, HOST, USER, FOLDER]
    assert names_in(here) == [HOST, USER, FOLDER] and names_in("vm /vm/ root") == []
