"""Weights from a hub of models: `hf://OWNER/NAME`, fetched once, kept, and named by what they are.

    hf://OWNER/NAME[/FILE.safetensors][@REVISION][#sha256=64 HEXADECIMAL DIGITS]

Without a file it is `model.safetensors`; without a revision the repository's default branch. Whoever gives the sha256
gets these bytes or an error. Nothing but safetensors is fetched: such a file holds numbers; loading it runs no code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from mpc_lite.errors import InputError, printable, shown

PREFIX = "hf://"
FILE = "model.safetensors"
HOW_TO_INSTALL = "install it with: pip install 'mpc-lite[hub]'"
PATIENCE = 10  # seconds without a word
_fetching = threading.Lock()  # one at a time: its answers are checked in the whole process
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REFERENCE = re.compile(
    rf"hf://(?P<repository>{_WORD}/{_WORD})(?:/(?P<file>[^@#]+))?(?:@(?P<revision>[^#]+))?"
    r"(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)


def at_revision(name: str | Path, revision: str | None) -> str | Path:
    """The name of weights with a revision put in. InputError where it has one already, or is no name of a hub."""
    if revision is None:
        return name
    match = _REFERENCE.fullmatch(str(name))
    if match is None or match["revision"]:
        raise InputError(
            f"revision '{revision}' of weights '{name}': only a name hf://OWNER/NAME takes a revision, and only one"
        )
    plain, mark, sha256 = str(name).partition("#")
    return f"{plain}@{revision}{mark}{sha256}"


@cache
def hub_file(reference: str) -> Path:
    """The local file that a name `hf://…` stands for, fetched unless the hub's cache has it; the same for a whole run.

    Writes one line to standard error: the same name with commit and sha256, which asks for exactly these bytes. Where
    the hub cannot be reached, a file in the cache is taken. InputError for a name that is not of the form above,
    another kind of file, what the hub does not have or give, no connection, other bytes than asked for, and without
    the package huggingface_hub.
    """
    match, short = _REFERENCE.fullmatch(reference), shown(reference, 200)
    if match is None:
        raise InputError(
            f"weights '{short}'; expected hf://OWNER/NAME, then if needed /FILE.safetensors, @REVISION, #sha256=…"
        )
    repository, file, revision = match["repository"], match["file"] or FILE, match["revision"]
    if problem := _wrong_name(repository, file, revision):
        raise InputError(f"weights '{short}': {problem}")
    if not file.endswith(".safetensors"):
        raise InputError(f"{short}: '{shown(file)}' is not fetched; only .safetensors files are, which hold no code")
    path = fetch(reference, repository, file, revision)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if match["sha256"] and match["sha256"].lower() != sha256:
        raise InputError(
            f"{reference}: the file's sha256 is {sha256}; nothing was loaded. It was changed on the hub or on the way: "
            "ask its owner, or name the revision that you know"
        )
    commit = re.search(r"[/\\]snapshots[/\\]([0-9a-f]{40})[/\\]", str(path))
    at = commit[1] if commit else revision or "main"
    named = "" if file == FILE else f"/{file}"
    print(printable(f"weights: {PREFIX}{repository}{named}@{at}#sha256={sha256}"), file=sys.stderr)
    return path


def _wrong_name(repository: str, file: str, revision: str | None) -> str | None:
    """Why a name cannot be one of a hub's, in words. Names become paths below the hub's cache, and may not leave it."""
    if re.search(r"\.\.|--|\.git$", repository) or len(repository) > 96:  # as the hub has it
        return f"'{shown(repository)}' is no repository; expected OWNER/NAME without '..', '--' and a last '.git'"
    if _leads_out(file):
        return f"'{shown(file)}' is no file of a repository; expected FILE.safetensors or FOLDER/FILE.safetensors"
    # What git allows in names of branches and tags; a commit is letters and digits.
    if revision and (_leads_out(revision) or re.search(r"[\s~^:?*\[]|@\{|\.\.|\.(lock)?(/|$)", revision)):
        return f"'{shown(revision)}' is no revision; expected a branch, a tag or a commit's whole hash"
    return None


def _leads_out(path: str) -> bool:
    odd = "\\" in path or printable(path) != path
    return odd or any(not part or part.startswith(".") for part in path.split("/"))


@contextmanager
def _note_of_waiting(repository: str) -> Iterator[None]:
    """A line where the hub takes its time: the package asks a server that is silent several times, and tells nobody."""
    note = printable(f"weights: waiting for the hub to give {repository} …")
    timer = threading.Timer(PATIENCE, print, [note], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _without_its_words() -> Iterator[None]:
    """The package tells of each question that it asks again, and warns of disks; the one line at the end is ours."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def fetch(reference: str, repository: str, file: str, revision: str | None) -> Path:
    """The file in the hub's cache, asked for there and on the hub. InputError, naming `reference`, as `hub_file`."""
    try:
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise InputError(f"{reference} needs the package huggingface_hub; {HOW_TO_INSTALL}") from None
    except ValueError as error:  # it reads its settings when it is imported
        raise InputError(f"{reference}: huggingface_hub cannot be used ({_line(error)}); {_advice()}") from None
    try:
        with _note_of_waiting(repository), _without_its_words(), _answers_checked():
            return Path(hf_hub_download(repository, file, revision=revision, library_name="mpc_lite"))
    except InputError as error:
        reason = str(error)
    except errors.GatedRepoError:
        reason = f"its owner has to let you in; ask on the hub's page of {repository}, then 'hf auth login'"
    except errors.RepositoryNotFoundError:
        reason = f"the hub knows no repository {repository}, or it is private; check the name, or 'hf auth login'"
    except errors.RevisionNotFoundError:
        reason = f"{repository} has no revision '{revision}'; give a branch, a tag or a commit's whole hash"
    except errors.LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError
        reason = _unanswered(repository, error.__cause__ or error)
    except errors.EntryNotFoundError:
        reason = f"{repository} has no file '{file}'; name one as {PREFIX}{repository}/FILE.safetensors"
    except Exception as error:  # a full disk, a broken download, and those of the HTTP library, which versions exchange
        reason = (
            _unanswered(repository, error) if _status(error) else f"the download failed ({_line(error)}); {_advice()}"
        )
    raise InputError(f"{shown(reference, 200)}: {shown(reason, 600)}")


@contextmanager
def _answers_checked() -> Iterator[None]:
    """Each answer is checked before the package acts on it, in every session: it begins new ones of its own accord.

    How it makes sessions can be set for this, but not read, so that what a program had set could not be put back.
    """
    from huggingface_hub import get_session

    # Of requests or of httpx, by the version. None is begun here: that fails for a proxy of an unknown kind, where what
    # the cache has needs no proxy.
    kind = get_type_hints(get_session)["return"]
    with _fetching:
        send = kind.send

        def send_and_check(session: Any, *request: Any, **options: Any) -> Any:
            answer = send(session, *request, **options)
            _check_names(answer)
            _forget_long_waits(answer.headers)
            return answer

        kind.send = send_and_check
        try:
            yield
        finally:
            kind.send = send


def _check_names(answer: Any) -> None:
    """InputError where a hub calls a commit or a file by what is no plain name: the package makes paths from them as
    they come, in its cache or out of it. The ETag of an error is that of a text, and makes none."""
    commit = answer.headers.get("X-Repo-Commit")
    if commit is None:  # nor does the package take it for a hub's answer
        return
    names = {"commit": commit}
    etag = answer.headers.get("X-Linked-Etag") or answer.headers.get("ETag")
    if etag and answer.status_code not in range(400, 600):
        names["file"] = etag.removeprefix("W/").strip('"')
    for what, name in names.items():
        if not re.fullmatch(r"(?!W+$)[A-Za-z0-9_=+-]+", name):  # of W alone the package leaves nothing
            answer.close()
            raise InputError(f"the hub calls its {what} {shown(name)}, expected letters and digits; {_advice()}")


def _forget_long_waits(headers: Any) -> None:
    """Where a hub says to come again in a minute or more, the package would wait so long, several times and without a
    word; unsaid, it asks again after some seconds, and then what the hub answers is told."""
    for name in ("Retry-After", "RateLimit"):
        if re.search(r"[6-9]\d|\d{3}", headers.get(name, "")):
            del headers[name]


def _unanswered(repository: str, error: BaseException) -> str:
    """What became of a question to the hub that is not in its cache either, and what to do."""
    status = _status(error)
    if status in (401, 403):
        return (
            f"the hub answers {status} ({_line(error)}): {repository} is private or gated, or your token may not read "
            "it; ask its owner, then 'hf auth login'"
        )
    if status:
        return f"the hub answers {status} ({_line(error)}), and the file is not in its cache; {_advice()}"
    if isinstance(error, ConnectionError) and "HF_HUB_OFFLINE" in str(error):
        return "HF_HUB_OFFLINE is set, and the file is not in the hub's cache; unset it, or give a file of your own"
    if type(error).__name__ == "FileMetadataError":  # in every version, though not at the same place
        return f"what answers is no hub ({_line(error)}), and the file is not in its cache; {_advice()}"
    return f"the hub cannot be reached, and the file is not in its cache; connect once, {_advice()}"


def _advice() -> str:
    endpoint = os.environ.get("HF_ENDPOINT")
    where = f"see whether HF_ENDPOINT={shown(endpoint)} is right, " if endpoint else ""
    return f"{where}try again later, or give a file of your own"


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about; None: there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _line(error: BaseException) -> str:
    return shown(next(iter(str(error).splitlines()), "") or type(error).__name__, 300)
