"""Every error that flp_ray raises on purpose.

    FlpRayError                  exit code 1: something failed
    |- InputError                exit code 2: what a person gave is wrong
    |  |- ConfigError            a study file
    |  |- TextError              a source, a domain or a tokenizer
    |  |- TaskError              a benchmark task
    |  |- RecordsError           a table of finished runs
    |  |- BudgetError            the plan costs more than the stated budget
    |  |- ResourceError          a run asks for more than any node of the cluster has
    |  `- StorageError           the study folder cannot be used (not writable, disk full, in use)
    |- RunError                  one run failed; the study goes on
    |  |- DivergedError          its loss is not a number
    |  |- GaveUpError            its attempts failed too often without coming further
    |  `- OutOfMemoryError       its device is too small for the micro batch; tried again with half of it
    |- ConflictError             a different value arrived under a key that is already stored
    |- NotEnoughDataError        exit code 3: records are there, but too few to answer
    `- IncompleteError           exit code 3: the study ended with some runs missing

An error message says what failed, the value received, what is allowed and what to do next.
All of them take one message, so they survive pickling between Ray processes.
"""


class FlpRayError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the command line's exit code."""

    exit_code = 1


class InputError(FlpRayError):
    """What a person gave is wrong; nothing recorded is lost."""

    exit_code = 2


class ConfigError(InputError):
    """A study file is wrong."""


class TextError(InputError):
    """A source, a domain or a tokenizer is missing, empty, too short or has changed."""


class TaskError(InputError):
    """A task is unknown or cannot be loaded."""


class RecordsError(InputError):
    """A table of finished runs is not in the import form."""


class BudgetError(InputError):
    """The plan costs more than the stated budget."""


class ResourceError(InputError):
    """A run asks for resources that no node has."""


class StorageError(InputError):
    """The study folder cannot be used."""


class RunError(FlpRayError):
    """One run failed; the study goes on without it."""


class DivergedError(RunError):
    """A run's loss is not a finite number."""


class GaveUpError(RunError):
    """A run's attempts failed too often without coming further."""


class OutOfMemoryError(RunError):
    """A run's device has too little memory for its micro batch."""


class ConflictError(FlpRayError):
    """A different value arrived under a key that is already stored."""


class NotEnoughDataError(FlpRayError):
    """Records are there, but too few to answer the question."""

    exit_code = 3


class IncompleteError(FlpRayError):
    """The study ended, but some of its runs are missing."""

    exit_code = 3
