"""Weights from a hub of models: `hf://OWNER/NAME`, fetched once, kept, and named by what they are.

    hf://OWNER/NAME[/FILE.safetensors][@REVISION][#sha256=64 HEXADECIMAL DIGITS]

Without a file it is `model.safetensors`; without a revision the repository's default branch. Whoever gives the sha256
gets these bytes or an error. Nothing but safetensors is fetched: such a file holds numbers; loading it runs no code.
"""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cache
from pathlib import Path

from mpc_lite.errors import InputError, printable, shown

PREFIX = "hf://"
FILE = "model.safetensors"
HOW_TO_INSTALL = "install it with: pip install 'mpc-lite[hub]'"
_WORD = r"[A-Za-z0-9](?:[\w.-]*\w)?"
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
    if not file.endswith(".safetensors"):
        raise InputError(f"{short}: '{shown(file)}' is not fetched; only .safetensors files are, which hold no code")
    path = _fetch(reference, repository, file, revision)
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


def _fetch(reference: str, repository: str, file: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise InputError(f"{reference} needs the package huggingface_hub; {HOW_TO_INSTALL}") from None
    try:
        return Path(hf_hub_download(repository, file, revision=revision, library_name="mpc_lite"))
    except errors.GatedRepoError:
        reason = f"its owner has to let you in; ask on the hub's page of {repository}, then 'hf auth login'"
    except errors.RepositoryNotFoundError:
        reason = f"the hub knows no repository {repository}, or it is private; check the name, or 'hf auth login'"
    except errors.RevisionNotFoundError:
        reason = f"{repository} has no revision '{revision}'; give a branch, a tag or a commit's whole hash"
    except errors.LocalEntryNotFoundError:  # a kind of EntryNotFoundError
        reason = "the hub cannot be reached, and the file is not in its cache; connect once, or give a file of your own"
    except errors.EntryNotFoundError:
        reason = f"{repository} has no file '{file}'; name one as {PREFIX}{repository}/FILE.safetensors"
    except (OSError, ValueError, RuntimeError) as error:  # a full disk, a broken download, a name the hub refuses
        reason = (
            f"the download failed ({shown(str(error).splitlines()[0], 300)}); try again, or give a file of your own"
        )
    raise InputError(f"{shown(reference, 200)}: {shown(reason, 600)}")
