"""Starting sandboxes: which launcher works here, one program, many programs."""

from __future__ import annotations

import functools
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from flp_ray.errors import TaskError
from flp_ray.measure.sandbox.filter import refusing_filter
from flp_ray.measure.sandbox.interpreter import interpreter

Launcher = Literal["bwrap", "unshare"]
Mode = Literal["run", "compile"]
Outcome = Literal["passed", "failed", "timed_out", "killed"]

_HERE = Path(__file__).parent
_NOBODY = "65534"
_VERDICT_BYTES = 4096
_COMPILED_AT_ONCE = 128
_GRACE_SECONDS = 5
"""After its wall limit a sandbox that nobody has ended ends itself."""

_ENVIRONMENT = {"PYTHONHASHSEED": "0"}
_FLAGS = ("-s", "-P", "-S", "-X", "utf8")
"""Those of `-I` and `-S`, but the environment is read: with random hashes the order of a set is another in each run."""

_PROBE = """
import decimal, hashlib, json, os, random, re, socket, string, itertools, heapq, typing
assert not os.path.exists("/etc") and not os.path.exists("/home") and not os.listdir("/tmp"), os.listdir("/")
assert not os.environ and os.getuid() == 65534
for forbidden in (os.fork, socket.socket, lambda: open("/file", "w")):
    try:
        forbidden()
    except OSError:
        continue
    raise AssertionError(forbidden)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use.

    Attributes:
        wall_seconds: Time from its start to its end.
        cpu_seconds: Processor time; it decides before the wall does where the machine is busy. What a slower
            processor needs longer for than this is timed out there and may pass elsewhere.
        memory_bytes: Address space of its one process.
        scratch_bytes: All files in its /tmp, and the longest file.
    """

    wall_seconds: float = 15.0
    cpu_seconds: int = 3
    memory_bytes: int = 1 << 30
    scratch_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a program ended.

    Attributes:
        outcome: `passed`: it ran to its end and raised nothing.
        detail: Name of what it raised, or of the signal that ended it; empty where it passed.
    """

    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Which launcher makes a sandbox here.

    Attributes:
        launcher: The one that is used; None where none works.
        reasons: Why the launchers before it do not work, by name.
    """

    launcher: Launcher | None
    reasons: dict[str, str]

    def advice(self) -> str:
        """What to do where there is no sandbox."""
        tried = "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items())
        return (
            f"no sandbox can be made on this machine ({tried}). Install bubblewrap (`apt-get install bubblewrap`), and "
            "allow user namespaces (sysctl user.max_user_namespaces > 0; kernel.apparmor_restrict_unprivileged_userns "
            "= 0; in a container, a seccomp profile that allows unshare and mount), or leave the task out"
        )


@functools.cache
def probe() -> Probe:
    """Tries the launchers, bubblewrap first; once a process (about 0.1 s)."""
    reasons: dict[str, str] = {}
    launchers: tuple[Launcher, ...] = ("bwrap", "unshare")
    for launcher in launchers:
        found = _tried(launcher)
        if found is None:
            return Probe(launcher=launcher, reasons=reasons)
        reasons[launcher] = found
    return Probe(launcher=None, reasons=reasons)


def run_program(program: str, limits: Limits | None = None) -> Verdict:
    """Runs one Python program in a sandbox of its own.

    Raises:
        TaskError: No sandbox can be made here.
    """
    said = _sure("run", program.encode(errors="surrogatepass"), limits or Limits())
    if isinstance(said, Verdict):
        return said
    return Verdict(outcome="failed", detail=said) if said else Verdict(outcome="passed")


def run_programs(programs: Sequence[str], limits: Limits | None = None, *, at_once: int = 1) -> list[Verdict]:
    """Runs programs, several at a time; equal programs are run once and share their verdict.

    Most of what a weak model writes is no Python. So programs are first compiled, many in one sandbox, and those
    that do not compile are not run.
    """
    limits = limits or Limits()
    different = list(dict.fromkeys(programs))
    batches = [different[k : k + _COMPILED_AT_ONCE] for k in range(0, len(different), _COMPILED_AT_ONCE)]
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        right = [program for batch in pool.map(lambda b: _compiling(b, limits), batches) for program in batch]
        verdicts = dict(zip(right, pool.map(lambda p: run_program(p, limits), right), strict=True))
    return [verdicts.get(program, Verdict(outcome="failed", detail="SyntaxError")) for program in programs]


def _compiling(programs: list[str], limits: Limits) -> list[str]:
    """Those that compile; all of them where compiling them together came to a bad end."""
    encoded = [program.encode(errors="surrogatepass").replace(b"\0", b"?") for program in programs]
    said = _sure("compile", b"\0".join(encoded), limits)
    if isinstance(said, Verdict) or len(said) != len(programs) or not set(said) <= {"c", "x"}:
        return programs
    return [program for program, letter in zip(programs, said, strict=True) if letter == "c"]


def _sure(mode: Mode, source: bytes, limits: Limits) -> Verdict | str:
    found = probe()
    if found.launcher is None:
        raise TaskError(f"Generated programs were not run: {found.advice()}.")
    said = _run(found.launcher, mode, source, limits)
    if said is None:
        said = _run(found.launcher, mode, source, limits)
    if said is None:
        raise TaskError(
            f"A sandbox ({found.launcher}) did not start, twice; the machine may be short of memory or processes. "
            "Measure fewer runs at once."
        )
    return said


def _tried(launcher: Launcher) -> str | None:
    """Why a launcher does not work; None where it does."""
    if sys.platform != "linux" or refusing_filter() is None:
        return "it is written for Linux on x86_64 and aarch64"
    if launcher == "bwrap" and shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    with os.fdopen(os.memfd_create("errors"), "w+b") as errors:
        try:
            found = _run(launcher, "run", _PROBE.encode(), Limits(), errors=errors.fileno())
        except OSError as error:
            return str(error)
        errors.seek(0)
        printed = errors.read(1000).decode(errors="replace").strip().splitlines()
    if found is None:
        return printed[-1] if printed else "it did not start"
    return f"its trial program ended so: {found}" if found else None


def _run(
    launcher: Launcher, mode: Mode, source: bytes, limits: Limits, *, errors: int = subprocess.DEVNULL
) -> Verdict | str | None:
    """What was said inside: nothing where all went well, or the verdict where it could not say more.

    None where the sandbox itself did not come to stand.
    """
    token = secrets.token_hex(8)
    read, write = os.pipe()
    seccomp = _memory_file(refusing_filter() or b"")
    program = _memory_file(source)
    try:
        inside = [mode, str(write), token, *map(str, (limits.memory_bytes, limits.cpu_seconds, limits.scratch_bytes))]
        command = (_bwrap if launcher == "bwrap" else _unshare)(inside, limits, seccomp)
        process = subprocess.Popen(
            command,
            stdin=program,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=_ENVIRONMENT,
            pass_fds=(write, seccomp),
            start_new_session=True,
        )
    finally:
        for number in (write, seccomp, program):
            os.close(number)
    with os.fdopen(read, "rb", buffering=0) as verdict, process:
        in_time = _ended(process, limits.wall_seconds)
        process.kill()
        code = process.wait()
        os.set_blocking(read, False)
        said = verdict.read(_VERDICT_BYTES) or b""
    return _judged(said, token, code, in_time=in_time)


def _judged(said: bytes, token: str, code: int, *, in_time: bool) -> Verdict | str | None:
    if not said.startswith(b"+"):
        return None
    given, _, words = said[1:].decode(errors="replace").partition(" ")
    if given == token:
        return words
    number = -code if code < 0 else code - 128
    if not in_time or number == signal.SIGXCPU or code == -signal.SIGALRM:
        return Verdict(outcome="timed_out")
    if number > 0:
        return Verdict(outcome="killed", detail=f"signal {number}")
    return Verdict(outcome="failed", detail="left before its end")


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Waits without the steps of up to 50 ms that `Popen.wait` takes."""
    handle = os.pidfd_open(process.pid)
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def _bwrap(inside: list[str], limits: Limits, seccomp: int) -> list[str]:
    files = interpreter()
    command = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--clearenv",
        *chain.from_iterable(("--setenv", *pair) for pair in _ENVIRONMENT.items()),
        "--cap-drop",
        "ALL",
    ]
    command += ["--uid", _NOBODY, "--gid", _NOBODY, "--seccomp", str(seccomp)]
    for path in files.shown:
        command += ["--ro-bind", path, path]
    for path in files.hidden:
        command += ["--tmpfs", path, "--remount-ro", path]
    command += ["--size", str(limits.scratch_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    return [*command, "--", files.python, *_FLAGS, "-c", _text("boot.py"), *inside]


def _unshare(inside: list[str], limits: Limits, seccomp: int) -> list[str]:
    files = interpreter()
    seconds = math.ceil(limits.wall_seconds) + _GRACE_SECONDS
    place = ["\n".join(files.shown), "\n".join(files.hidden), str(limits.scratch_bytes)]
    place += [(refusing_filter() or b"").hex(), str(seconds)]
    text = _text("mounts.py") + _text("boot.py")
    return [files.python, *_FLAGS, "-c", text, *inside, *place]


@functools.cache
def _text(name: str) -> str:
    return (_HERE / name).read_text()


def _memory_file(content: bytes) -> int:
    number = os.memfd_create("sandbox")
    os.write(number, content)
    os.lseek(number, 0, os.SEEK_SET)
    return number
