"""What bubblewrap does, where it is not installed: new namespaces and an empty file system, then the program.

launch.py hands the text of this file and of boot.py to `python -c`, so nothing but the standard library is
there. The process forks twice: the first child is the new PID namespace's first process, which the kernel kills
with its parent and with which all inside dies; the second runs the program. The process itself dies with the one that
launched it, and of its own accord where that one stands still.
"""

# pathlib is slow to import, and each program pays for it.
# ruff: noqa: PTH103, PTH112, PTH120, PTH123
import ctypes
import os
import signal
import sys

_NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
"""CLONE_NEWUSER, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP."""
_READ_ONLY, _NO_SUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PDEATHSIG, _NO_NEW_PRIVS, _SECCOMP, _SECCOMP_FILTER = 1, 38, 22, 2
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [None if not text else text.encode() for text in (source, target, kind, options)]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _read_only(place: str) -> None:
    """Keeps the flags that a user namespace may not take away."""
    held = os.statvfs(place).f_flag
    relative = 1 << 21 if held & os.ST_RELATIME else 0
    _mount("", place, "", _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES | relative | held & 0xC08)


def _build(root: str, shown: "list[str]", hidden: "list[str]", scratch_bytes: int) -> None:
    """Makes `root` the root of everything: the shown paths read-only, the hidden ones empty, a small /tmp."""
    _mount("", "/", "", _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "mode=755")
    for path in shown:
        target = root + path
        os.makedirs(target if os.path.isdir(path) else os.path.dirname(target), exist_ok=True)
        if not os.path.isdir(path):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _mount(path, target, "", _BIND)
        _read_only(target)
    for path in hidden:
        _mount("tmpfs", root + path, "tmpfs", _READ_ONLY | _NO_SUID | _NO_DEVICES)
    os.makedirs(f"{root}/tmp", exist_ok=True)
    _mount("tmpfs", f"{root}/tmp", "tmpfs", _NO_SUID | _NO_DEVICES, f"size={scratch_bytes}")
    os.chdir(root)
    if _libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b".") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root failed")
    _call("umount2", b".", _DETACH)
    os.chdir("/")
    _read_only("/")
    os.chdir("/tmp")


def _drop(seccomp: bytes) -> None:
    """No capability, none to be had again, and the filter."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _call("capset", header, nothing)
    _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    steps = ctypes.create_string_buffer(seccomp, len(seccomp))
    program = Program(len(seccomp) // 8, ctypes.cast(steps, ctypes.c_void_p))
    _call("prctl", _SECCOMP, _SECCOMP_FILTER, ctypes.byref(program), 0, 0)


def _forked() -> None:
    """Goes on in a child that dies with this process; this one waits for it and ends as it did."""
    child = os.fork()
    if child == 0:
        _call("prctl", _PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        return
    _, status = os.waitpid(child, 0)
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def enter(shown: "list[str]", hidden: "list[str]", scratch_bytes: int, seccomp: bytes, seconds: int) -> None:
    """Takes this process into the sandbox; only the child that runs the program returns."""
    _call("prctl", _PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.alarm(seconds)  # children do not inherit it
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_NAMESPACES)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{_NOBODY} {user} 1"), ("gid_map", f"{_NOBODY} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    _forked()
    # The first process: /proc is a place to mount on that is always there and holds nothing to show.
    _build("/proc", shown, hidden, scratch_bytes)
    _forked()
    _drop(seccomp)


if __name__ == "__main__":
    _shown, _hidden, _scratch, _filter, _seconds = sys.argv[7:]
    _folders = _hidden.split("\n") if _hidden else []
    enter(_shown.split("\n"), _folders, int(_scratch), bytes.fromhex(_filter), int(_seconds))
