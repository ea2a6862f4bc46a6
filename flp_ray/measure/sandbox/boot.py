"""Runs inside the sandbox: sets the limits, then runs the program that arrives on stdin, or only compiles several.

The verdict is `+` as soon as the sandbox stands, then the token and the name of what the program raised, if anything;
of programs to compile, which NUL bytes part, a letter each: `x` where it is no Python, `c` where it is to be run.
Nothing but the standard library is there, and of it little is imported, because each program pays for it; launch.py
hands this file's text to `python -c`.
"""

import os
import resource
import sys


def main(mode: str, verdict: int, token: str, memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    """Runs the program, or compiles several, and ends the process."""
    del sys.argv[1:]
    os.environ.clear()
    program = sys.stdin.buffer.read()
    limits = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + 1),
        resource.RLIMIT_FSIZE: (file_bytes, file_bytes),
        resource.RLIMIT_NOFILE: (32, 32),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
    }
    for limit, values in limits.items():
        resource.setrlimit(limit, values)
    os.write(verdict, b"+")
    said = ""
    try:
        if mode == "run":
            exec(compile(program, "program", "exec"), {})
        else:
            said = "".join(map(_compiles, program.split(b"\0")))
    except BaseException as raised:  # noqa: BLE001 - whatever it raised is the verdict
        said = type(raised).__name__
    os.write(verdict, f"{token} {said}".encode())
    os._exit(0)


def _compiles(program: bytes) -> str:
    try:
        compile(program, "program", "exec")
    except SyntaxError:
        return "x"
    except (ValueError, MemoryError, RecursionError, OverflowError):
        return "c"  # to be run by itself, which finds what it raises
    return "c"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7]))
