"""Hostile programs do no harm and get a clear verdict, in both launchers; the same for honest ones."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flp_ray.errors import TaskError
from flp_ray.measure.sandbox import Limits, Probe, Verdict, launch, probe, run_program, run_programs

QUICK = Limits(wall_seconds=30.0, cpu_seconds=1)
PATIENT = Limits(wall_seconds=60.0, cpu_seconds=20)


@pytest.fixture(params=["bwrap", "unshare"])
def run(request, monkeypatch):
    reason = launch._tried(request.param)
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")

    monkeypatch.setattr(launch, "probe", lambda: Probe(launcher=request.param, reasons={}))

    def running(program: str, limits: Limits = QUICK) -> Verdict:
        return run_program(program, limits)

    return running


def asserted(run, program: str) -> None:
    """The program itself says what it sees; any surprise is an AssertionError in its verdict."""
    assert run(program) == Verdict(outcome="passed")


def test_honest_programs(run):
    asserted(run, "import math, re, json, hashlib, decimal, dataclasses\nassert math.gcd(12, 18) == 6")
    asserted(run, "open('/tmp/mine', 'w').write('x')\nassert open('/tmp/mine').read() == 'x'")
    assert run("assert 1 == 2") == Verdict(outcome="failed", detail="AssertionError")
    assert run("def f(:") == Verdict(outcome="failed", detail="SyntaxError")
    assert run("x = 'a\0b'") == Verdict(outcome="failed", detail="SyntaxError")
    assert run("# " + "long " * 100_000).outcome == "passed"
    assert run("input()") == Verdict(outcome="failed", detail="EOFError")


def test_leaving_early_is_not_passing(run):
    for leave in ("import os; os._exit(0)", "raise SystemExit(0)", "import sys; sys.exit()"):
        assert run(leave).outcome == "failed"
    # What is written where the verdict goes is no verdict without its token.
    forged = "import os\nfor fd in range(3, 32):\n    try: os.write(fd, b'00 ')\n    except OSError: pass\nos._exit(0)"
    assert run(forged) == Verdict(outcome="failed", detail="left before its end")


def test_no_network(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        connect = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        assert run(connect) == Verdict(outcome="failed", detail="PermissionError")
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_files_but_the_standard_library(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("42")
    paths = ["/etc/passwd", "/proc/1/environ", "/proc/self/status", "/root/.ssh", "/home", "/dev/null", "/var", "/sys"]
    asserted(run, f"import os\nfor p in {[*paths, str(secret), str(Path(__file__))]}: assert not os.path.exists(p), p")
    for place in (secret, "/new", Path(os.__file__), Path(os.__file__).parent / "new.py", "/etc/new"):
        assert run(f"open({str(place)!r}, 'w')").outcome == "failed"
    assert run("import numpy").detail == "ModuleNotFoundError"
    site = Path(os.__file__).parent / "site-packages"
    asserted(run, f"import os\nassert not os.path.exists({str(site)!r}) or os.listdir({str(site)!r}) == []")
    assert secret.read_text() == "42"


def test_no_environment_and_no_rights(run, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "42")
    asserted(run, "import os\nassert not os.environ and os.getuid() == 65534 and 'SECRET' not in str(os.popen)")
    libc = "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
    asserted(run, libc + "assert c.getenv(b'SECRET_TOKEN') == 0")
    # A capability, another user, a namespace, a mount, shared memory that no limit counts: refused.
    for call in ("setuid(0)", "unshare(0x10000000)", "mount(b'x', b'/tmp', b'tmpfs', 0, 0)", "chroot(b'/tmp')",
                 "shmget(0, 1 << 30, 0o1600)", "memfd_create(b'x', 0)", "ptrace(0, 0, 0, 0)"):  # fmt: skip
        asserted(run, libc + f"assert c.{call} == -1, {call!r}")


def test_a_fork_bomb_does_not_start(run):
    assert run("import os\nwhile True: os.fork()").detail == "PermissionError"
    assert run("import threading\nwhile True: threading.Thread(target=print).start()").detail == "RuntimeError"
    assert run("import subprocess, sys\nsubprocess.run([sys.executable, '-c', '1'])").detail == "PermissionError"
    asserted(run, "import os\ntry: os.fork()\nexcept OSError: pass\nelse: raise AssertionError")
    # fork, vfork, clone and clone3 by number, past the C library.
    calls = {"x86_64": (57, 58, 56, 435), "aarch64": (220, 435)}[os.uname().machine]
    asserted(run, f"import ctypes; c = ctypes.CDLL(None)\nfor n in {calls}: assert c.syscall(n, 17, 0, 0, 0, 0) == -1")


def test_memory_and_files_are_bounded(run):
    assert run("x = 'a' * (2 << 30)", PATIENT) == Verdict(outcome="failed", detail="MemoryError")
    assert run("x = []\nwhile True: x.append(bytearray(1 << 24))", PATIENT).detail == "MemoryError"
    assert run("import mmap; mmap.mmap(-1, 2 << 30)", PATIENT).outcome == "failed"
    assert run("f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20))", PATIENT).detail == "OSError"
    fill = "k = 0\nwhile True:\n    k += 1\n    with open(f'/tmp/{k}', 'wb') as f: f.write(bytes(1 << 20))\n"
    assert run(fill, PATIENT).detail == "OSError"
    assert run("held = []\nwhile True: held.append(open('/tmp/x', 'w'))", PATIENT).detail == "OSError"


def test_time_is_bounded(run):
    assert run("while True: pass") == Verdict(outcome="timed_out")
    ignoring = "import signal\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
    assert run(ignoring + "while True: pass").outcome == "killed"


def test_what_is_over_time_is_gone(run, monkeypatch):
    """It ignores signals and undoes the kernel's promise to kill it with its parent; yet nothing of it is left."""
    monkeypatch.setattr(launch.secrets, "token_hex", lambda _: f"token-of-{os.getpid()}")
    waits = (
        "import ctypes, signal, time\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
        "ctypes.CDLL(None).prctl(1, 0)\nwhile True: time.sleep(9)"
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, waits, Limits(wall_seconds=4.0))
        seen = 0
        while not running.done():
            seen = max(seen, _alive())
            time.sleep(0.1)
        assert running.result() == Verdict(outcome="timed_out")
    assert seen >= 2  # the launcher and the program: the look at /proc does find them
    deadline = time.monotonic() + 5
    while _alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive() == 0


_LAUNCHING = """
import sys
from flp_ray.measure.sandbox import Limits, Probe, launch
launch.probe = lambda: Probe(launcher=sys.argv[1], reasons={})
launch.secrets.token_hex = lambda _: sys.argv[2]
launch.run_program("import time\\nwhile True: time.sleep(9)", Limits(wall_seconds=float(sys.argv[3])))
"""


@pytest.mark.parametrize(
    ("launcher", "ending", "seconds"),
    [("bwrap", signal.SIGKILL, 60.0), ("unshare", signal.SIGKILL, 60.0), ("unshare", signal.SIGSTOP, 1.0)],
)
def test_a_program_does_not_outlive_the_process_that_launched_it(launcher, ending, seconds):
    """Nor its time limit, where that process stands still."""
    reason = launch._tried(launcher)
    if reason is not None:
        pytest.skip(f"{launcher}: {reason}")
    argv = [sys.executable, "-c", _LAUNCHING, launcher, f"token-of-{os.getpid()}", str(seconds)]
    with subprocess.Popen(argv) as launching:
        try:
            deadline = time.monotonic() + 30
            while (
                _alive() < 4 and time.monotonic() < deadline
            ):  # the launching one, the launcher, its first, the program
                time.sleep(0.02)
            assert _alive() >= 4
            launching.send_signal(ending)
            stopped = int(ending == signal.SIGSTOP)
            deadline = time.monotonic() + 12
            while _alive() > stopped and time.monotonic() < deadline:
                time.sleep(0.05)
            assert _alive() == stopped
        finally:
            launching.kill()


def test_a_set_has_one_order(run):
    """Each program passes with about half of all hash seeds; its verdict is one."""
    for word in ("a", "b", "c"):
        program = f"assert list({{'yes {word}', 'no {word}'}})[0][0] == 'y'"
        assert len({run(program) for _ in range(8)}) == 1
    asserted(run, "import sys\nassert sys.path and not any('site-packages' in p or p in ('', '.') for p in sys.path)")
    asserted(run, "import sys\nassert sys.flags.safe_path and sys.flags.no_user_site and 'site' not in sys.modules")


def test_nobody_else_can_be_killed(run):
    """Neither this process nor the sandbox's first; a program may kill itself."""
    asserted(run, "import os\nassert os.getpid() == 2 and os.getppid() == 1\nos.kill(1, 9); os.kill(1, 15)")
    asserted(run, f"import os\ntry: os.kill({os.getpid()}, 9)\nexcept ProcessLookupError: pass\nelse: assert False")
    assert run("import os; os.kill(-1, 9)").outcome in ("passed", "failed")
    assert run("import os; os.kill(os.getpid(), 9)") == Verdict(outcome="killed", detail="signal 9")
    assert run("import ctypes; ctypes.string_at(0)") == Verdict(outcome="killed", detail="signal 11")


def test_output_goes_nowhere(run, capfd):
    loud = "import os\nfor k in range(200): print('x' * 100_000, flush=True); os.write(2, b'y' * 100_000)"
    assert run(loud) == Verdict(outcome="passed")
    every = "    for fd in range(1, 32):\n        try: os.write(fd, b'z' * 65536)\n        except OSError: pass"
    endless = f"import os\nwhile True:\n{every}"
    assert run(endless, Limits(wall_seconds=3.0, cpu_seconds=1)) == Verdict(outcome="timed_out")
    assert capfd.readouterr() == ("", "")


def test_many_at_once_and_equal_ones_once():
    start = time.monotonic()
    programs = ["import time; time.sleep(1.5)"] * 50 + ["1 / 0", "pass"]
    verdicts = run_programs(programs, at_once=2)
    assert time.monotonic() - start < 20
    assert [v.outcome for v in verdicts] == ["passed"] * 50 + ["failed", "passed"]
    assert run_programs([], at_once=2) == []


def test_what_does_not_compile_is_not_run(run, monkeypatch):
    """Many are compiled in one sandbox; what ends that sandbox is run by itself."""
    launched = []
    start = launch._run
    monkeypatch.setattr(launch, "_run", lambda *a, **o: launched.append(a[1]) or start(*a, **o))
    broken = [f"x{k} = = 1" for k in range(99)]
    mixed = [*broken, "assert 1", "x = '\0'", "\ud800", "# -*- coding: nonsense -*-\nx = 1"]
    verdicts = run_programs(mixed, QUICK)
    assert [v.detail for v in verdicts[:99]] == ["SyntaxError"] * 99 and verdicts[99].outcome == "passed"
    assert {v.outcome for v in verdicts[100:]} == {"failed"} and len(launched) <= 4
    deep = "x = " + "(" * 150 + "1" + ")" * 150
    assert [v.outcome for v in run_programs([deep, "assert 0", "-" * 100_000 + "1"], QUICK)][1] == "failed"


@pytest.mark.parametrize("count", [10, 11, 12])
def test_what_the_compiler_cannot_hold_is_run_by_itself(run, count, monkeypatch):
    """Its error is no answer about the programs beside it, however many these are: `MemoryError` has 11 letters."""
    deep = "x = " + "-" * 30_000 + "1"
    programs = [deep, "x = = 1", *[f"assert {k} != 3" for k in range(count - 2)]]
    alone = run(deep, PATIENT)
    assert alone.outcome in ("failed", "killed")
    expected = [alone, run("x = = 1"), *[run(program) for program in programs[2:]]]
    assert run_programs(programs, PATIENT) == expected
    monkeypatch.setattr(launch, "_sure", lambda *_: "MemoryError")
    assert launch._compiling(programs, PATIENT) == programs


def test_no_sandbox_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(launch, "probe", lambda: Probe(launcher=None, reasons={"bwrap": "Operation not permitted"}))
    with pytest.raises(TaskError, match=r"bwrap: Operation not permitted.*Install bubblewrap.*user namespaces"):
        run_program("pass")


def test_the_probe_says_why(monkeypatch):
    assert probe().launcher in ("bwrap", "unshare")
    monkeypatch.setattr(launch, "_unshare", lambda *_: ["/bin/sh", "-c", "echo no namespaces >&2; exit 1"])
    assert launch._tried("unshare") == "no namespaces"
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "x86_64 and aarch64" in launch._tried("unshare")


def test_a_sandbox_that_does_not_stand_is_no_verdict(monkeypatch):
    """A machine without memory must not make a program fail its tests."""
    for name in ("_bwrap", "_unshare"):
        monkeypatch.setattr(launch, name, lambda *_: ["/bin/false"])
    with pytest.raises(TaskError, match=r"did not start, twice"):
        run_program("pass")


def _alive() -> int:
    """Processes of the sandbox of this test: its token is among their arguments."""
    found = 0
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += f"token-of-{os.getpid()}".encode() in place.read_bytes()
        except OSError:
            continue
    return found
