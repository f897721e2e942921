"""Python processes that begin as forks of one that has imported torch and the like, instead of importing them again.

A test that starts `python …` pays four processor seconds for imports that the test is not about. Where the fixture
`forked` is used, `subprocess.Popen` asks a process that has imported third-party modules, and has run nothing with
them, for a fork which goes on as `python …` would: the caller's own child, with its own number, signals and end,
and with the environment, folder and standard streams of the call. The package is imported by each process anew.
tests/test_forked.py compares the two. What a third-party module looks up while it is imported, as a home, is older.

What is not plainly `python -c`, `-m` or a script, sets of variables that count when libraries are loaded (beyond the
first few), systems other than Linux, and measurements of coverage have the ordinary way.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import inspect
import io
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator

MODULES = ("torch._dynamo", "torchvision", "matplotlib.pyplot", "sklearn.manifold", "ipykernel.kernelapp", "cv2")
# Programs whose own children are to be forks as well.
LAUNCHERS = ("torch.distributed.run", "accelerate.commands.launch")
LAUNCHERS += ("versus.py", "workloads.py", "threads.py", "freed_memory.py")
# Read when Python starts or a library is loaded: a fork has the values of the process that it comes from.
AT_START = ("PYTHON", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "LD_", "MALLOC_", "LANG", "LC_", "MPLB")
ANYWAY = ("PYTHONPATH", "PYTHONUSERBASE")  # the fork takes the first; `tests.elsewhere` sets the other to what it is
AT_MOST = 2  # processes to fork from, of a third of a gigabyte each
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: whose parent ends becomes the child of the next one up that asked for it

ordinary = subprocess.Popen
origins: dict[str, socket.socket | None] = {}  # {variables of AT_START: the process to fork from, None: it is gone}
lock = threading.Lock()


class Forked(ordinary):
    """Popen whose child is a fork where that comes to the same."""

    def _execute_child(self, *given, **named):
        call = inspect.signature(ordinary._execute_child).bind(self, *given, **named).arguments
        streams = [call[key] for key in ("p2cread", "c2pwrite", "errwrite")]
        streams = [own if stream == -1 else stream for own, stream in enumerate(streams)]
        pid = fork(request, streams) if (request := request_of(call)) and not any(map(os.isatty, streams)) else None
        if pid is None:
            return super()._execute_child(*given, **named)
        self.pid, self._child_created = pid, True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        return self._close_pipe_fds(*(call[key] for key in ends))


def request_of(call: dict) -> dict | None:
    """What a fork is asked to be; None: a call that only a process of its own can answer."""
    words = [call["args"]] if isinstance(call["args"], str | bytes) else [os.fspath(x) for x in call["args"]]
    environment = dict(os.environ if call["env"] is None else call["env"])
    folder = os.path.abspath(call["cwd"] or ".")
    rest = words[2:] if words[1:2] == ["-u"] else words[1:]
    if (
        any(call.get(key) for key in ("shell", "preexec_fn", "executable", "pass_fds"))
        or any(call.get(key, -1) not in (None, -1) for key in ("gid", "gids", "uid", "umask", "process_group"))
        or not all(isinstance(x, str) for x in [*words, *environment, *environment.values()])
        or words[0] != sys.executable
        or not (rest and (rest[0] in ("-c", "-m") or rest[0].endswith(".py")))
        or any(name.startswith("COV") for name in environment)
        or not os.path.isdir(folder)
    ):
        return None
    group = 0 if call["start_new_session"] else os.getpgid(0)
    return {"words": words[1:], "environment": environment, "folder": folder, "group": group}


def at_start(environment: dict[str, str]) -> str:
    """What of an environment a fork cannot take."""
    return json.dumps({k: v for k, v in sorted(environment.items()) if k.startswith(AT_START) and k not in ANYWAY})


def fork(request: dict, streams: list[int]) -> int | None:
    """The number of a child that does what is requested; None: there is nothing to fork it from."""
    key = at_start(request["environment"])
    with lock:
        if key not in origins and len(origins) == AT_MOST:
            return None
        origin = origins[key] if key in origins else origins.setdefault(key, begin(request["environment"]))
        if origin is None:
            return None
        prctl = ctypes.CDLL(None).prctl
        prctl(SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(origin, [json.dumps(request).encode()], streams)
            return int(origin.recv(20))  # nothing, or a broken pipe: it ended
        except (OSError, ValueError):
            origins[key] = None
            return None
        finally:
            prctl(SUBREAPER, 0, 0, 0, 0)


def begin(environment: dict[str, str]) -> socket.socket:
    """A process to fork from; it ends with this one, when its socket is closed."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    clean = {"OMP_WAIT_POLICY": "PASSIVE"} | {k: v for k, v in environment.items() if k != "PYTHONPATH"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with its:
        process = ordinary([sys.executable, __file__, str(its.fileno())], env=clean, pass_fds=[its.fileno()], **quiet)
    ours.settimeout(300)  # after which everything starts in the ordinary way
    process.returncode = 0  # never waited for: no warning that it still runs
    return ours


# ------------------------------------------------------------------------------------------- the process to fork from


def serve(asked: socket.socket) -> dict:
    """Fork a child for each request. Returns only in the child, with the request; ends with the process that asks."""
    while True:
        data, streams, *_ = socket.recv_fds(asked, 1 << 20, 3)
        if not data:
            os._exit(0)
        request, (heard, says) = json.loads(data), os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)  # now the child belongs to the process that asks
            while os.getppid() == between:
                time.sleep(0.001)
            os.setpgid(0, request["group"]) if request["group"] else os.setsid()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.write(says, str(os.getpid()).encode())
            for descriptor in (heard, says, *streams):
                os.close(descriptor)
            asked.close()
            return request
        os.waitpid(between, 0)
        for descriptor in (says, *streams):
            os.close(descriptor)
        asked.send(os.read(heard, 20))
        os.close(heard)


def become(words: list[str], environment: dict[str, str], folder: str, group: int) -> None:
    """Go on as `python WORDS…` in this environment and folder."""
    import matplotlib
    import numpy

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    numpy.random.seed()
    unbuffered = words[0] == "-u" or bool(environment.get("PYTHONUNBUFFERED"))
    words = words[words[0] == "-u" :]
    # Anew: the streams of before knew whether they could seek.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        old = getattr(sys, name)
        file = os.fdopen(number, f"{mode}b", 0 if unbuffered and number else -1, closefd=False)
        about = {"line_buffering": number == 2, "write_through": unbuffered and number > 0}
        stream = io.TextIOWrapper(file, old.encoding, old.errors, **about)
        stream.mode = mode
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if "ipykernel" in " ".join(words[:2]):  # it sets this for the matplotlib that a notebook is about to import
        matplotlib.rcParams["backend"] = os.environ.setdefault(
            "MPLBACKEND", "module://matplotlib_inline.backend_inline"
        )
    how, rest = words[0], words[1:]
    first = {"-c": "", "-m": folder}.get(how, os.path.dirname(os.path.abspath(how)))
    sys.path[:1] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    platform._uname_cache = None  # a module may have asked for the machine's name before
    with contextlib.suppress(ImportError):
        sys.modules.pop("sitecustomize", None)
        import sitecustomize  # noqa: F401
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    if how == "-m":
        sys.argv[:] = ["-m", *rest[1:]]
        runpy._run_module_as_main(rest[0])
    elif how == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv[:] = words
        main.__dict__["__file__"] = os.path.abspath(how)
        with io.open_code(how) as file:
            exec(compile(file.read(), how, "exec"), main.__dict__)


def leads(words: list[str]) -> bool:
    program = next(word for word in words if word not in ("-u", "-c", "-m"))
    return os.path.basename(program) in LAUNCHERS


def lead(environment: dict[str, str]) -> dict | None:
    """Make a process to fork children from, before this one runs anything; a request in each of these children."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open(os.devnull, "r+b") as nothing:
            for stream in range(3):
                os.dup2(nothing.fileno(), stream)
        return serve(its)
    its.close()
    origins[at_start(environment)] = ours
    subprocess.Popen = Forked
    return None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = socket.socket(fileno=int(sys.argv[1]))
    asked.set_inheritable(False)
    sys.path[0] = ""  # stands for what comes before the standard library
    for name in MODULES:
        with contextlib.suppress(ImportError):
            __import__(name)
    gc.collect()
    gc.freeze()
    request = serve(asked)
    while leads(request["words"]) and (asked_of := lead(request["environment"])):
        request = asked_of
    code, interrupted = 0, False
    try:
        become(**request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code and code is not error.code:
            print(error.code, file=sys.stderr)
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
    end(code, interrupted)


def end(code: int, interrupted: bool) -> None:
    """As Python ends, but that what was imported is left to the system: to take it down would take half a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    if (known := vars(sys.modules["__main__"])) is not globals():
        known.clear()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 255)


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Forks for the processes that are started meanwhile, also by modules that have imported Popen by name."""
    if not sys.platform.startswith("linux") or subprocess.Popen is not ordinary:  # no forks there, or forks already
        yield
        return
    holders = [
        subprocess,
        *(m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get("Popen") is ordinary),
    ]
    for module in holders:
        module.Popen = Forked
    try:
        yield
    finally:
        for module in holders:
            module.Popen = ordinary


if __name__ == "__main__":
    main()
