"""Which file system a path belongs to, as Spark would resolve it."""

from __future__ import annotations

import os
from typing import Any

from pyspark.sql import SparkSession

from bigfive_udf.errors import SettingsError
from bigfive_udf.redaction import first_line
from bigfive_udf.tables.filesystem import FileSystem, LocalFileSystem, is_uri, local_path
from bigfive_udf.tables.hadoop import HadoopFileSystem


def locate(spark: SparkSession, path: str) -> tuple[FileSystem, str]:
    """The file system of `path`, and the path as this file system takes it: plain on the local disk, else a URI.

    A path without a scheme belongs to the cluster's default file system (fs.defaultFS), as it does for Spark.

    Raises:
        SettingsError: no file system of that scheme is installed, or it can't be reached with these settings.
    """
    configuration = spark._jsc.hadoopConfiguration()
    jvm = spark._jvm
    assert jvm is not None
    if not is_uri(path) and configuration.get("fs.defaultFS").startswith("file:"):
        return LocalFileSystem(), os.path.realpath(path)
    plain = local_path(path) if path.startswith("file:") else None
    if plain is not None:
        return LocalFileSystem(), os.path.realpath(plain)
    try:
        location = jvm.org.apache.hadoop.fs.Path(path)
        qualified = location.getFileSystem(configuration).makeQualified(location).toString()
    except Exception as error:
        if getattr(error, "java_exception", None) is None:
            raise
        java: Any = error.java_exception  # type: ignore[attr-defined]
        kind = java.getClass().getSimpleName()
        message = first_line(java.getMessage() or "", 300) or kind
        lacking = kind == "UnsupportedFileSystemException" or "ClassNotFoundException" in message
        cure = (
            "add its connector to the session"
            if lacking
            else "check its address, its spark.hadoop settings, and that it is up"
        )
        raise SettingsError(f"{path}: Spark can't reach this file system ({message}); {cure}") from None
    return HadoopFileSystem(jvm, configuration), qualified


def as_uri(fs: FileSystem, path: str) -> str:
    """The path for Spark; a local path gets a scheme, or Spark would look for it in the default file system."""
    return "file://" + path if isinstance(fs, LocalFileSystem) else path


def as_pattern(fs: FileSystem, path: str) -> str:
    """The path of a found file for Spark's readers; glob characters are escaped, because Spark reads paths as globs."""
    return as_uri(fs, "".join("\\" + c if c in "*?[]{}\\" else c for c in path))


def quoted(column: str) -> str:
    """A column name quoted for an expression; without quotes, a dot in it would mean a field of a struct."""
    return "`" + column.replace("`", "``") + "`"


def literal(value: str | None) -> str:
    """A string as a literal of Spark SQL, whatever characters it contains."""
    return "NULL" if value is None else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
