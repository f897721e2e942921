"""Weights from a hub, tested against a server on this machine that speaks the hub's file endpoints; no network."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpc_lite.errors import InputError
from mpc_lite.network import hub as hub_module
from mpc_lite.network.hub import at_revision
from mpc_lite.network.weights import pretrained_file

huggingface_hub = pytest.importorskip(
    "huggingface_hub", reason="the package is not installed: pip install 'mpc-lite[hub]'"
)

ROOT = Path(__file__).parents[2]
COMMITS = {"main": "a" * 40, "v1": "b" * 40}
LITE = pretrained_file("lite").read_bytes()
SHA256 = hashlib.sha256(LITE).hexdigest()
# (repository, file) -> revision -> content
FILES = {
    ("we/lite", "model.safetensors"): {"main": LITE, "v1": pretrained_file("lite-stage1").read_bytes()},
    ("we/lite", "other/one.safetensors"): {"main": LITE},
    ("we/lite", "broken.safetensors"): {"main": LITE},
    ("we/names", "model.safetensors"): {"main": LITE},
    ("we/pickles", "model.bin"): {"main": b"\x80\x02"},
}


class Hub(BaseHTTPRequestHandler):
    """GET and HEAD of /OWNER/NAME/resolve/REVISION/FILE, with the headers and error codes of the hub."""

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        repository, _, rest = self.path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        revision = {commit: name for name, commit in COMMITS.items()}.get(revision, revision)
        if repository == "we/store":  # no hub, but where one may send to
            return self.give(LITE, ETag='"of/the/store"')
        if repository in self.server.turns:  # each answer in its turn, then the last again and again
            turns = self.server.turns[repository]
            status, headers = turns.pop(0) if len(turns) > 1 else turns[0]
            return self.refuse(status, "EntryNotFound" if status == 404 else "", **headers)
        if repository == "we/forbidden":
            return self.refuse(403, "no \x1b[31mred")
        if repository == "we/moved":
            headers = {"X-Repo-Commit": COMMITS["main"], "ETag": '"abc"', "X-Linked-Size": "9"}
            return self.refuse(302, "", Location="ftp://127.0.0.1/model", **headers)
        if repository == "we/page":  # of a network that asks to sign in
            return self.refuse(200, "")
        if repository == "we/gated":
            return self.refuse(403, "GatedRepo")
        if repository not in {r for r, _ in FILES}:
            return self.refuse(401, "RepoNotFound")
        if revision not in COMMITS:
            return self.refuse(404, "RevisionNotFound")
        data = FILES.get((repository, file), {}).get(revision)
        if data is None:
            return self.refuse(404, "EntryNotFound")
        name = "beside/abc" if repository == "we/names" else hashlib.sha256(data).hexdigest()
        self.give(data, file.startswith("broken"), **{"X-Repo-Commit": COMMITS[revision], "ETag": f'"{name}"'})

    do_HEAD = do_GET

    def give(self, data, broken=False, **headers):
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:1000] if broken else data)
            self.close_connection = broken

    def refuse(self, status, code, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.turns = [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def environment(home, address):
    kept = {
        k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HUGGING")) and "proxy" not in k.lower()
    }
    return {**kept, "HF_HOME": str(home), "HF_ENDPOINT": address, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}


SCRIPT = """
import json, sys
from mpc_lite.errors import InputError
from mpc_lite.network.hub import hub_file
for reference in json.loads(sys.argv[1]):
    try:
        print(json.dumps(str(hub_file(reference))))
    except InputError as error:
        print(json.dumps("error: " + str(error)))
"""


def asking(home, address, *references, script=SCRIPT):
    """A fresh process that asks for each reference."""
    words = [sys.executable, "-c", script, json.dumps(references)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment(home, address), **pipes)


def answers_of(process):
    """(answer to each reference, what the process wrote to standard error)."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    # The package itself prints a line where its settings are wrong.
    return [json.loads(line) for line in output.splitlines() if line.startswith('"')], errors


def ask(home, address, *references):
    return answers_of(asking(home, address, *references))


def address_of(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """It asks six times in 23 seconds, in which the other tests that begin after it go on."""
    process = asking(tmp_path_factory.mktemp("offline"), NOWHERE, "hf://we/lite")
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_file_is_fetched_once_and_named_by_commit_and_sha256(hub, tmp_path):
    hub.asked.clear()
    plain = "hf://we/lite"
    (first, second, older, other), said = ask(
        tmp_path, address_of(hub), plain, plain, "hf://we/lite@v1", "hf://we/lite/other/one.safetensors"
    )
    assert first == second and Path(first).read_bytes() == LITE == Path(other).read_bytes()
    assert Path(older).read_bytes() == FILES["we/lite", "model.safetensors"]["v1"]
    exact = f"hf://we/lite@{COMMITS['main']}#sha256={SHA256}"
    assert said.count(f"weights: {exact}\n") == 1  # the second time nothing was asked or said
    assert f"weights: hf://we/lite@{COMMITS['v1']}#sha256=" in said
    assert f"weights: hf://we/lite/other/one.safetensors@{COMMITS['main']}#sha256={SHA256}\n" in said
    fetched = [path for method, path in hub.asked if method == "GET" and path.endswith("/model.safetensors")]
    assert len(fetched) == len(set(fetched)) == 2  # one a revision

    # What was printed is itself a name; it and the plain name are answered from the cache when the hub is away.
    (again, offline), _ = ask(tmp_path, NOWHERE, exact, plain)
    assert again == offline == first


def test_each_mistake_has_its_sentence(hub, tmp_path):
    cases = {
        f"hf://we/lite#sha256={'0' * 64}": f"the file's sha256 is {SHA256}; nothing was loaded",
        "hf://we/nothing": "the hub knows no repository we/nothing",
        "hf://we/gated": "its owner has to let you in",
        "hf://we/lite@v2": "we/lite has no revision 'v2'",
        "hf://we/lite/absent.safetensors": "we/lite has no file 'absent.safetensors'",
        "hf://we/pickles": "we/pickles has no file 'model.safetensors'; name one as hf://we/pickles/FILE.safetensors",
        "hf://we/pickles/model.bin": "'model.bin' is not fetched; only .safetensors files are",
        "hf://we": "expected hf://OWNER/NAME",
        "hf://we/../lite": "expected hf://OWNER/NAME",
        "hf://we/lite#sha256=12": "expected hf://OWNER/NAME",
        "hf://we/forbidden": r"the hub answers 403 (403 Forbidden: no \x1b[31mred.): we/forbidden is private or gated",
        "hf://we/page": "what answers is no hub (",
        "hf://we/moved": "the download failed (",
    }
    answers, _ = ask(tmp_path, address_of(hub), *cases)
    for (reference, expected), answer in zip(cases.items(), answers, strict=True):
        assert answer.startswith("error: ") and reference in answer and expected in answer, answer
        assert answer.isprintable() and "cannot be reached" not in answer
    assert not [path for _, path in hub.asked if path.endswith(".bin")]


@pytest.mark.slow
def test_a_download_that_breaks_off_is_one_sentence(hub, tmp_path):
    (answer,), _ = ask(tmp_path, address_of(hub), "hf://we/lite/broken.safetensors")
    assert answer.startswith("error: hf://we/lite/broken.safetensors: the download failed ("), answer
    assert "try again later, or give a file of your own" in answer


@pytest.mark.slow
def test_a_file_by_a_name_with_folders_is_not_fetched(hub, tmp_path):
    (answer,), _ = ask(tmp_path, address_of(hub), "hf://we/names")
    said = "error: hf://we/names: the hub calls its file beside/abc, expected letters and digits; see"
    assert answer.startswith(said)
    assert ("GET", "/we/names/resolve/main/model.safetensors") not in hub.asked and not list(tmp_path.rglob("abc*"))


@pytest.mark.slow
def test_no_answer_makes_a_file_outside_the_cache(hub, tmp_path):
    out = "../../../../outside"  # of the folders of the cache that names go into
    commit = {"X-Repo-Commit": COMMITS["main"]}
    good, bad = {**commit, "ETag": '"abc"'}, {**commit, "ETag": f'"{out}"'}
    hub.turns = {
        "we/later": [(200, good), (200, bad)],  # an empty file: the first answer is all that is asked for
        "we/broken": [(500, {}), (200, bad)],  # not every version of the package asks again
        "we/linked": [(200, {**good, "X-Linked-Etag": f'W/"{out}"'})],
        "we/elsewhere": [(302, {**bad, "Location": "http://127.0.0.1:9/model"})],
        "we/odd": [(700, bad)],
        "we/weak": [(200, {**commit, "ETag": "WW"})],  # the package takes each W for the mark of a weak ETag
        "we/commit": [(200, {**good, "X-Repo-Commit": out})],
        "we/absent": [(404, {"X-Repo-Commit": out})],
    }
    (_, _, *answers), _ = ask(tmp_path / "home", address_of(hub), *(f"hf://{name}" for name in hub.turns))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    names = [*(["file", out] for _ in range(3)), ["file", "WW"], *(["commit", out] for _ in range(2))]
    for (what, name), answer in zip(names, answers, strict=True):
        assert f": the hub calls its {what} {name}, expected letters and digits; see whether" in answer


@pytest.mark.slow
def test_a_hub_may_send_to_a_store_that_has_its_own_etags(hub, tmp_path):
    place = f"http://localhost:{hub.server_address[1]}/we/store/resolve/main/1"  # another host's, by its name
    names = {"X-Repo-Commit": COMMITS["main"], "X-Linked-Etag": '"abc"', "ETag": 'W/"of/this"'}
    hub.turns = {"we/stored": [(302, {**names, "X-Linked-Size": str(len(LITE)), "Location": place})]}
    (answer,), _ = ask(tmp_path, address_of(hub), "hf://we/stored")
    assert Path(answer).read_bytes() == LITE and [path.name for path in tmp_path.rglob("blobs/*")] == ["abc"]


def test_an_error_is_told_whatever_the_etag_of_its_text(hub, tmp_path):
    hub.turns = {"we/absent": [(404, {"X-Repo-Commit": COMMITS["main"], "ETag": 'W/"f-mY2/LxuxB7KhsoOdQTlMTcc+AQ"'})]}
    (answer,), _ = ask(tmp_path, address_of(hub), "hf://we/absent")
    assert answer.startswith("error: hf://we/absent: we/absent has no file 'model.safetensors'; name one as")


def test_a_session_that_the_package_begins_anew_is_checked_and_none_afterwards(hub, monkeypatch):
    """It begins one where a connection is refused, and asks again."""
    hub.turns = {"we/anew": [(200, {"X-Repo-Commit": COMMITS["main"], "ETag": '"beside/abc"'})]}
    address = f"{address_of(hub)}/we/anew/resolve/main/model.safetensors"

    def ask_anew(*_, **__):
        utils = huggingface_hub.utils
        (utils.close_session if hasattr(utils, "close_session") else utils.reset_sessions)()
        huggingface_hub.get_session().head(address)

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", ask_anew)
    with pytest.raises(InputError, match="the hub calls its file beside/abc, expected letters and digits"):
        hub_module.fetch("hf://we/anew", "we/anew", "model.safetensors", None)
    assert huggingface_hub.get_session().head(address).status_code == 200


def test_a_hub_is_not_waited_for_an_hour(hub, tmp_path):
    hub.turns = {
        "we/busy": [(429, {"Retry-After": "3600"})],
        "we/limited": [(429, {"RateLimit": '"resolvers";r=0;t=3600'})],
    }
    script = "import sys, time; time.sleep = lambda s: print(f'slept {s}', file=sys.stderr)" + SCRIPT
    answers, said = answers_of(
        asking(tmp_path, address_of(hub), *(f"hf://{name}" for name in hub.turns), script=script)
    )
    assert all("the hub answers 429 (" in answer and "try again later" in answer for answer in answers)
    assert all(float(seconds) < 60 for seconds in re.findall("slept (.+)", said))


@pytest.mark.slow
@pytest.mark.parametrize("address", ["notaurl", "ftp://127.0.0.1", "http://["])
def test_an_address_that_is_none_is_one_sentence(address, tmp_path):
    (answer,), _ = ask(tmp_path, address, "hf://we/lite")
    assert answer.startswith("error: hf://we/lite: ") and f"see whether HF_ENDPOINT={address} is right" in answer


@pytest.mark.parametrize(
    "name",
    [
        *(f"hf://we/lite@{r}" for r in ("../../../x", "/x", "a/../b", "a//b", "a/", "a\\b", "a b", "a\nb", "a\x1bb")),
        *(
            f"hf://we/lite@{r}"
            for r in ("..", ".", "a..b", "a.lock", "a.", ".a", "a:b", "a~1", "a^", "a@{1}", "a\u202eb")
        ),
        *(f"hf://we/lite/{f}.safetensors" for f in ("../x", "/x", "a/../x", "a\\..\\x", "a//x", ".x", "a\x1bb")),
        *(f"hf://{r}" for r in ("we/a..b", "we/a--b", "a..b/lite", "we/lite.git", f"we/{'a' * 100}")),
    ],
)
def test_names_that_leave_the_cache_are_refused_unasked(name, monkeypatch):
    monkeypatch.setattr(hub_module, "fetch", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(InputError, match=r"is no (repository|file of a repository|revision); expected") as refusal:
        hub_module.hub_file(name)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/3", "feature/long-name_2", "a" * 40, "größer", "v1@2"])
def test_revisions_that_git_allows_are_asked_for(revision, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(hub_module, "fetch", lambda *words: asked.append(words[3]) or tmp_path / "w")
    (tmp_path / "w").write_bytes(b"w")
    hub_module.hub_file.__wrapped__(f"hf://we/lite@{revision}")
    assert asked == [revision]


def test_a_silent_hub_is_told_of(monkeypatch, capsys, tmp_path):
    def slow(*_, **__):
        time.sleep(0.5)
        return tmp_path

    monkeypatch.setattr(hub_module, "PATIENCE", 0.05)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", slow)
    assert hub_module.fetch("hf://we/lite", "we/lite", "model.safetensors", None) == tmp_path
    assert capsys.readouterr().err == "weights: waiting for the hub to give we/lite …\n"


@pytest.mark.slow
def test_predict_takes_weights_of_a_hub(hub, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    weights = f"hf://we/lite@v1#sha256={hashlib.sha256(FILES['we/lite', 'model.safetensors']['v1']).hexdigest()}"
    command = [sys.executable, "-m", "mpc_lite.cli", "predict", "a.png", "--out", "out", "--device", "cpu"]
    run = subprocess.run(
        [*command, "--weights", weights],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(tmp_path / "home", address_of(hub)),
    )
    assert run.returncode == 0, run.stderr
    assert "a.png: score 0." in run.stdout and "only the encoder of hf://we/lite@v1" in run.stderr
    assert run.stderr.count("weights: hf://") == 1


def test_a_revision_goes_into_the_name():
    assert at_revision("lite", None) == "lite"
    assert at_revision("hf://we/lite", "v1") == "hf://we/lite@v1"
    assert (
        at_revision(f"hf://we/lite/a.safetensors#sha256={SHA256}", "v1")
        == f"hf://we/lite/a.safetensors@v1#sha256={SHA256}"
    )
    for name in ("lite", "model.safetensors", "hf://we/lite@v2"):
        with pytest.raises(InputError, match="only a name hf://OWNER/NAME takes a revision, and only one"):
            at_revision(name, "v1")


def test_without_the_package_the_message_says_how_to_install_it(tmp_path):
    code = "import sys; sys.modules['huggingface_hub'] = None; " + SCRIPT
    run = subprocess.run(
        [sys.executable, "-c", code, '["hf://we/lite"]'],
        capture_output=True,
        text=True,
        env=environment(tmp_path, NOWHERE),
    )
    assert "needs the package huggingface_hub; install it with: pip install 'mpc-lite[hub]'" in run.stdout, run.stderr


@pytest.mark.slow
def test_offline_without_a_cache_is_one_sentence(offline):
    (answer,), _ = answers_of(offline)
    reason = "the hub cannot be reached, and the file is not in its cache; connect once, see whether HF_ENDPOINT="
    advice = "is right, try again later, or give a file of your own"
    assert answer == f"error: hf://we/lite: {reason}{NOWHERE} {advice}"
