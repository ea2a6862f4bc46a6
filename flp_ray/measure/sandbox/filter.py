"""A seccomp filter: the system calls that a sandboxed program is refused."""

from __future__ import annotations

import errno
import platform
import struct

_DENIED = {
    # Processes and threads: a fork bomb fails at its first step, also where limits on processes do not bind root.
    "clone": (56, 220),
    "clone3": (435, 435),
    "fork": (57, None),
    "vfork": (58, None),
    # Network, beside the empty network namespace.
    "socket": (41, 198),
    # Memory that RLIMIT_AS does not count.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "io_setup": (206, 0),
    # Other processes, namespaces and mounts, and calls with a history of holes.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "personality": (135, 92),
}
"""Numbers by call, on x86_64 and on aarch64; None where a call does not exist."""

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_NOT_LESS, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000


def refusing_filter() -> bytes | None:
    """The filter as the kernel takes it (`struct sock_filter[]`); None for a processor that it is not written for.

    Refused calls fail with EPERM; calls of another architecture's numbering (i386, x32) kill.
    """
    if platform.machine() not in _ARCHITECTURES:
        return None
    column, architecture = _ARCHITECTURES[platform.machine()]
    numbers = sorted(n for n in (pair[column] for pair in _DENIED.values()) if n is not None)
    count = len(numbers)
    # (code, jump if true, jump if false, operand); the last three are allow, refuse and kill.
    steps = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 0, count + 4, architecture), (_LOAD, 0, 0, 0)]
    steps.append((_JUMP_NOT_LESS, count + 2, 0, _X32))
    steps += [(_JUMP_EQUAL, count - k, 0, number) for k, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, result) for result in (_ALLOW, _REFUSE, _KILL)]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
