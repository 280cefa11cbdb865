"""What was measured, in a file that says by what and on what."""

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
    """Write results as JSON beside the machine, the versions and the commit that they were measured with."""
    content = {"machine": machine(), "versions": versions(), "commit": commit(), **about, "results": results}
    Path(file).write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """The processor, its cores, and what of it torch uses."""
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
    """Of the packages that are measured, those that are here."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """That of the checkout, `+` where it has been changed since; None outside of one."""
    try:
        of = ["git", "-C", str(Path(__file__).parent)]
        name = subprocess.run([*of, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run(
            [*of, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.strip() + ("+" if changed else "")
