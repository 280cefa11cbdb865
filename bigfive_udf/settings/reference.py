"""Make docs/settings.md from the definitions of the settings: `python -m bigfive_udf.settings.reference`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from bigfive_udf.settings.evaluate import EvaluateSettings
from bigfive_udf.settings.import_model import ImportSettings
from bigfive_udf.settings.quantize import QuantizeSettings
from bigfive_udf.settings.report import ReportSettings
from bigfive_udf.settings.score import ScoreSettings
from bigfive_udf.settings.section import Section
from bigfive_udf.settings.train import TrainSettings

JOBS: dict[str, type[Section]] = {
    "score": ScoreSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "import_model": ImportSettings,
    "quantize": QuantizeSettings,
    "report": ReportSettings,
}

_HEAD = """# Settings

Every setting of every job, made from the code by `python -m bigfive_udf.settings.reference`.
Set them in the file of `--config` or with `--set key.path=value`, where the value is YAML. A relative path counts from
the repository's root in the shipped files of conf/, from the file's own folder in any other file, and from the working
directory in `--set`.
"""


def reference() -> str:
    """The page as Markdown."""
    pages = [_HEAD]
    for job, settings in JOBS.items():
        rows = "\n".join(f"| `{key}` | {kind} | {default} | {about} |" for key, kind, default, about in _rows(settings))
        pages.append(f"## jobs/{job}.py\n\n| setting | type | default | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(pages)


def _rows(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _rows(annotation, f"{prefix}{name}.")
            continue
        default = "*required*" if field.default is PydanticUndefined else f"`{json.dumps(field.default)}`"
        yield prefix + name, _type_name(annotation), default, field.description or ""


def _type_name(annotation: Any) -> str:
    arguments = get_args(annotation)
    if annotation is Any:
        return "anything"
    if get_origin(annotation) is Annotated:
        return _type_name(arguments[0])
    if not arguments:
        return {"str": "string", "int": "integer", "float": "number", "bool": "true or false", "NoneType": "null"}.get(
            annotation.__name__, str(annotation)
        )
    if get_origin(annotation) is list:
        return f"list of {_type_name(arguments[0])}s"
    if get_origin(annotation) is dict:
        return f"map of string to {_type_name(arguments[1])}"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    return " or ".join(_type_name(a) for a in arguments)


if __name__ == "__main__":
    print(reference(), end="")
