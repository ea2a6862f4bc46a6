"""What of this machine a sandboxed program sees: the Python interpreter and its standard library."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_UNUSED_MODULES = re.compile(r"_tkinter|nis|dbm|sqlite|readline|curses|_test|_ssl|ossaudio|spwd|xxlimited")
"""Extension modules whose many libraries would make each start slower."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Paths that Python needs: the program, files and folders to show, folders in them to hide."""

    python: str
    shown: list[str]
    hidden: list[str]


@functools.cache
def interpreter() -> Interpreter:
    """The interpreter of this process, without its virtual environment."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    library = os.path.realpath(sysconfig.get_path("stdlib"))
    platform_library = os.path.realpath(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix}))
    extensions = [p for p in Path(platform_library, "lib-dynload").glob("*.so") if not _UNUSED_MODULES.search(p.name)]
    linked = subprocess.run(["ldd", python, *map(str, extensions)], capture_output=True, text=True, check=False)
    libraries = set(re.findall(r"(?:^|=>)\s+(/\S+) \(0x", linked.stdout, re.MULTILINE))
    shown = sorted({python, *libraries}) + sorted({library, platform_library})
    hidden = [p for name in ("site-packages", "dist-packages") if (p := f"{library}/{name}") and Path(p).is_dir()]
    return Interpreter(python, shown, hidden)
