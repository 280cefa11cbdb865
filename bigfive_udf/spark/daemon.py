"""Spark's daemon of Python workers, which forks every worker with the workers' imports already done.

So a worker starts in a moment instead of seconds, and the libraries' memory, 200 MB and more, is there once per machine
and not once per worker. `spark.python.daemon.module` switches the daemon on; job_session sets it in local mode. On a
cluster the executors' Python must have the package; --py-files is not enough.
"""

from __future__ import annotations

import contextlib
import gc
import importlib

import pyspark.daemon

# None of these may start a thread or touch a GPU when it is imported: a forked worker could use neither.
_PRELOADED = (
    "pandas",
    "pyarrow",
    "safetensors.torch",
    "tokenizers",
    "bigfive_udf.model.scorer",
    "bigfive_udf.spark.workers.worker",
)


def preload() -> None:
    """Import what workers need; a failed import is left to the worker, which can report it to the driver."""
    for name in _PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # Otherwise a garbage collection in a worker would write to these permanent objects, and so copy their pages.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    preload()
    pyspark.daemon.manager()
