"""Files of results, which also say with which code and on which machine they were measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "transformers", "pyspark", "onnxruntime", "openvino", "ray", "daft", "mlflow")


def save(file: str | Path, results: Any, **about: Any) -> None:
    """Write results as JSON, with the machine, the versions and the commit that they were measured with."""
    content = {"machine": machine(), "versions": versions(), "commit": commit(), **about, "results": results}
    Path(file).write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """The processor, its cores, the instruction set that torch uses, and the GPU."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the measured packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout, with `+` if files have changed since; None outside a checkout."""
    try:
        of = ["git", "-C", str(Path(__file__).parent)]
        name = subprocess.run([*of, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run(
            [*of, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.strip() + ("+" if changed else "")
