"""The errors of this package, and the exit code of each.

    BigFiveError
    ├── SettingsError            2  wrong settings or flags
    ├── InputError               3  the input can't be read or has the wrong columns
    ├── ArtifactError            4  the model is missing, damaged or of the wrong kind
    ├── PartitionsFailedError    5  some partitions failed, the others are committed
    ├── TableLockedError         6  another run holds the table
    ├── OutputError              7  the output can't be written
    ├── RefusedError             8  the run would mix models or schemas, or rescore more than allowed
    └── MachinesLostError      143  Spark lost machines or could not reach them, or their memory was full

A message is one line that names the thing, its value and the cure. Anything else that is raised is a defect of ours:
exit code 1, with a stack trace.
"""

from __future__ import annotations


class BigFiveError(Exception):
    """An error with a cause that the user can remove."""

    exit_code = 1


class SettingsError(BigFiveError):
    """A setting or flag is wrong."""

    exit_code = 2


class InputError(BigFiveError):
    """The corpus can't be read, or does not have the columns that the settings name."""

    exit_code = 3


class ArtifactError(BigFiveError):
    """The model is missing, damaged or of the wrong kind."""

    exit_code = 4


class PartitionsFailedError(BigFiveError):
    """Some partitions failed; the others are committed."""

    exit_code = 5


class TableLockedError(BigFiveError):
    """Another run is writing the table."""

    exit_code = 6


class OutputError(BigFiveError):
    """The table, a record or an artifact can't be written."""

    exit_code = 7


class RefusedError(BigFiveError):
    """The run would mix models or schemas, or rescore more than allowed."""

    exit_code = 8


class MachinesLostError(BigFiveError):
    """Spark lost executors or workers more often than it retries, or can't reach its cluster.

    Another run may well succeed.
    """

    exit_code = 143
