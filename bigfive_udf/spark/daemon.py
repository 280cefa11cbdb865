"""Spark's daemon of Python workers, with what every worker imports already imported: they are forked from it.

So a worker starts in a moment instead of seconds, and the libraries' memory, 200 MB and more, is there once per machine
and not once per worker. Switched on by `spark.python.daemon.module`, which job_session does in local mode; on a cluster
it needs the package in the executors' Python, not only in --py-files.
"""

from __future__ import annotations

import contextlib
import gc
import importlib

import pyspark.daemon

# Nothing here starts a thread or touches a GPU when it is imported, or the forks would inherit what they can't use.
_PRELOADED = (
    "pandas",
    "pyarrow",
    "safetensors.torch",
    "tokenizers",
    "bigfive_udf.model.scorer",
    "bigfive_udf.spark.workers.worker",
)


def preload() -> None:
    """Import what workers need. What can't be imported is left for the worker to say, which can tell the driver."""
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # Counting references in what lives for good would copy its pages into every worker.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    preload()
    pyspark.daemon.manager()
