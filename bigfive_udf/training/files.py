"""Read tables from CSV, JSON lines and Parquet files exactly: nothing is dropped, replaced or guessed."""

from __future__ import annotations

import csv
import io
import json
import re

import pandas as pd

from bigfive_udf.errors import InputError
from bigfive_udf.redaction import first_line
from bigfive_udf.settings.labelled import TextTableSettings

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "json", ".json": "json", ".ndjson": "json"}
_UTF8_MARK, _WIDE_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


def read_table(source: str, settings: TextTableSettings) -> pd.DataFrame:
    """Read the file or directory at `source`, on any fsspec file system, in the format and encoding of the settings.

    Raises:
        InputError: it can't be read, has another format or encoding, or has rows longer or shorter than its header.
    """
    name = re.sub(r"\.(gz|bz2|xz|zst|zip)$", "", source.lower().rstrip("/"))
    endings = [kind for ending, kind in _FORMATS.items() if name.endswith(ending)]
    kind = settings.format or (endings[0] if endings else None)
    try:
        if kind == "parquet":
            return pd.read_parquet(source)
        if kind is None:
            raise InputError(f"{source}: its name does not tell its format; set data.format to csv, parquet or json")
        text = _decoded(source, _content(source), settings.encoding)
        return _json_lines(source, text) if kind == "json" else _csv(source, text, settings.separator)
    except ImportError as error:  # a file system, or a compression, that needs a package of its own
        why = first_line(str(error)) or type(error).__name__
        raise InputError(f"{source} can't be read: {why}; install what is named there") from error
    except OSError as error:
        why = error.strerror or (first_line(str(error)) or type(error).__name__)
        raise InputError(f"{source} can't be read: {why}; set data.path to a file that is there") from error
    except (ValueError, csv.Error) as error:
        why = first_line(str(error)) or type(error).__name__
        raise InputError(f"{source} is not the {kind} that its name or data.format says: {why}") from error


def _content(source: str) -> bytes:
    import fsspec

    with fsspec.open(source, "rb", compression="infer") as file:
        return bytes(file.read())


def _decoded(source: str, content: bytes, encoding: str) -> str:
    """The text of a file; an error if it has another encoding: nothing is replaced, nothing is guessed."""
    if content.startswith(_WIDE_MARKS):
        raise InputError(f"{source} is UTF-16: save it as UTF-8")
    if encoding == "utf-8":
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
            likely = "cp1252" if _windows_bytes(content) else "latin-1"
            raise InputError(
                f"{source} is not UTF-8 (line {line} has the byte 0x{byte:02x}): "
                f"save it as UTF-8 or set data.encoding to what it was saved in, most likely {likely}"
            ) from None
    if content.startswith(_UTF8_MARK) or (not content.isascii() and _is_utf8(content)):
        raise InputError(f"{source} is UTF-8, and data.encoding is {encoding}: set data.encoding=utf-8")
    if encoding == "latin-1" and (marks := _windows_bytes(content)):
        raise InputError(
            f"{source} has {marks} bytes from 0x80 to 0x9f, which are no letters in Latin-1: set data.encoding=cp1252"
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{source} is not {encoding} (line {line} has the byte 0x{content[error.start]:02x}, without a meaning in "
            "it): save it as UTF-8, or set data.encoding to what it was saved in"
        ) from None


def _windows_bytes(content: bytes) -> int:
    """Number of bytes that are control characters in Latin-1, but quotation marks and dashes in Windows' cp1252."""
    return sum(content.count(bytes([b])) for b in range(0x80, 0xA0))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _csv(source: str, text: str, separator: str) -> pd.DataFrame:
    """All fields as strings: "NA" may be a text, 007 an author; this package, not pandas, decides what a label means.

    Python's strict reader is used, since pandas drops the surplus fields of a row.
    """
    limit = csv.field_size_limit(len(text) + 1)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = next(reader, None)
        if not header:
            raise ValueError("it is empty")
        if len(header) == 1 and (other := next((s for s in ";\t|" if s in header[0]), None)):
            raise InputError(f"{source} has one column only, {header[0][:60]!r}: set data.separator={other!r}")
        rows = []
        for row in reader:
            if len(row) == len(header):
                rows.append(row)
            elif row:  # an empty line is not a row
                raise InputError(
                    f"{source}, line {reader.line_num}: {len(row)} fields, the header has {len(header)}: put quotes "
                    f"around texts that hold {separator!r} or line breaks, or set data.separator"
                )
    finally:
        csv.field_size_limit(limit)
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{source} has two columns {twice[0]!r}: rename one")
    return pd.DataFrame(rows, columns=header, dtype=object)


def _json_lines(source: str, text: str) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a text may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{source}, line {number}, is not JSON ({error}): one object a line is expected") from None
        if not isinstance(row, dict):
            raise InputError(f"{source}, line {number}, holds {type(row).__name__}: one object a line is expected")
        rows.append(row)
    columns = dict.fromkeys(key for row in rows for key in row)
    return pd.DataFrame({key: pd.Series([row.get(key) for row in rows], dtype=object) for key in columns})
