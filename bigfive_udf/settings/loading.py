"""Load settings from a YAML file and `--set`; whatever is wrong with them is reported in one clear line."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from bigfive_udf.errors import SettingsError
from bigfive_udf.settings.secrets import STARS
from bigfive_udf.settings.section import PATH_OR_HUB, PATH_OR_NAME, Section
from bigfive_udf.tables.filesystem import is_uri

S = TypeVar("S", bound=Section)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also reads 1e-4 as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def load_settings(kind: type[S], config: str | Path | None, overrides: Sequence[str] = ()) -> S:
    """Read `config`, if there is one, apply `key.path=value` overrides, resolve relative paths, validate.

    A relative path in the file is relative to the repository's root for the shipped files in conf/ and to the file's
    own folder elsewhere; one in an override is relative to the working directory.

    Raises:
        SettingsError: the file can't be read, or a key, type or value is wrong.
    """
    file = Path(config) if config is not None else None
    values = _resolved(kind, _read(file), _base_folder(file)) if file is not None else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"--set {_told(override)}: write it as key.path=value")
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2026-02-30
            raise SettingsError(f"--set {_told(override)}: the value is not YAML; put quotes around it") from None
        _assign(values, key, _resolved_key(kind, key.split("."), value, Path.cwd()), override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_one_line(kind, error, file)) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise SettingsError(f"--config {file} can't be read: {error.strerror}; give the path of a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date such as 2026-02-30
        place = getattr(error, "problem_mark", None)
        where = f" in line {place.line + 1}" if place else ""
        # YAML takes a password that begins with * or ! for an alias or a tag, and its message would quote it.
        problem = re.sub(r"(alias|tag handle|tag) '.*'", rf"\1 {STARS}", str(getattr(error, "problem", None) or error))
        raise SettingsError(f"--config {file} is not YAML{where}: {problem}") from None
    if not isinstance(content or {}, dict):
        raise SettingsError(
            f"--config {file} holds {type(content).__name__}, expected sections such as input: and output:"
        )
    return content or {}


def _base_folder(file: Path) -> Path:
    folder = file.resolve().parent
    shipped = folder.name == "conf" and (folder.parent / "jobs" / "score.py").is_file()
    return folder.parent if shipped else folder


def _section(kind: type[Section], keys: Sequence[str]) -> type[Section] | None:
    for key in keys:
        annotation = kind.model_fields[key].annotation if key in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return None
        kind = annotation
    return kind


def _resolved(kind: type[Section], values: Mapping[str, Any], base: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: _resolved_key(kind, (*keys, str(key)), value, base) for key, value in values.items()}


def _resolved_key(kind: type[Section], keys: Sequence[str], value: Any, base: Path) -> Any:
    if isinstance(value, Mapping):
        return _resolved(kind, value, base, tuple(keys))
    if value is None and _section(kind, keys) is not None:
        return {}  # a section whose keys are all commented out
    section = _section(kind, keys[:-1])
    field = section.model_fields.get(keys[-1]) if section else None
    marks = field.json_schema_extra if field else None
    if not isinstance(value, str) or not isinstance(marks, dict) or "path" not in marks:
        return value
    if is_uri(value):
        return value
    if not value:
        return value  # empty: refused later with its key; joined with `base` it would become that folder
    path = base / os.path.expanduser(value)
    owner = {PATH_OR_HUB["path"]: r"\w[\w.-]*/", PATH_OR_NAME["path"]: r"(?:\w[\w.-]*/)?"}.get(str(marks["path"]))
    if owner is not None and re.fullmatch(owner + r"\w[\w.-]*", value) and not path.exists():
        return value
    return str(path)


def _assign(values: dict[str, Any], key: str, value: Any, override: str) -> None:
    *sections, last = key.split(".")
    for name in sections:
        inner = values.get(name)
        values[name] = dict(inner) if isinstance(inner, Mapping) else {}
        if inner is not None and not isinstance(inner, Mapping):
            raise SettingsError(f"--set {_told(override)}: {name} is a value, not a section")
        values = values[name]
    values[last] = value


def _about_catalog(keys: Sequence[str]) -> str:
    """The message for a mistake in output.catalog, without its values and without a key that may be a value."""
    if len(keys) == 1:
        return "output: must be a section of settings, written as output: and indented keys below it"
    name = keys[2] if len(keys) > 2 else ""
    if not re.fullmatch(r"[\w.-]+", name):
        return "output.catalog: must be a map of properties, such as {type: sql, uri: ...}, a space after each :"
    return (
        f"output.catalog.{name}: must be a string: put quotes around a number, and write a name with dots as one key, "
        "such as output.catalog={s3.region: ...}"
    )


def _told(override: str) -> str:
    """The override as messages may show it: without values that may be secrets of the catalog."""
    key, equals, _ = override.partition("=")
    if not re.match(r"output(\.catalog|\W*$|\W.*catalog)", key):
        return override
    return f"{key}={STARS}" if equals else f"output.catalog{STARS}"


def _one_line(kind: type[Section], error: ValidationError, file: Path | None) -> str:
    found = error.errors()
    first = found[0]
    keys = [str(part) for part in first["loc"]]
    key = ".".join(keys)
    value = first.get("input")
    if keys[:2] == ["output", "catalog"] or (keys == ["output"] and isinstance(value, (list, str))):
        message = _about_catalog(keys)
    elif first["type"] == "extra_forbidden":
        section = _section(kind, keys[:-1])
        known = list(section.model_fields) if section else []
        close = difflib.get_close_matches(keys[-1], known, n=1)
        cure = f"did you mean {close[0]}?" if close else f"the keys there are {', '.join(known)}"
        message = f"{key}: there is no such setting; {cure}"
    elif first["type"] == "missing":
        place = f"in {file}" if file is not None else "in a file of --config"
        section = _section(kind, keys)
        needed = f"{key}.{next(iter(section.model_fields))}" if section else key
        message = f"{needed} is not set: set it {place} or with --set {needed}=..."
    elif first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        message = message if "." in message.split(":")[0] or not key else f"{key}: {message}"
    elif first["type"] == "model_type":
        message = f"{key} {value!r}: must be a section of settings, written as {key}: and indented keys below it"
    elif first["type"] == "string_too_short":
        message = f"{key} {value!r}: must not be empty"
    else:
        message = f"{key} {value!r}: {re.sub('^Input should be', 'must be', first['msg'])}"
    return message + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
