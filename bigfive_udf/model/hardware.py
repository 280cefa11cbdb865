"""What the machine can do, and the one place where device, precision and thread count are decided."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bigfive_udf.errors import SettingsError

# Words of /proc/cpuinfo that mean bf16 products in hardware: x86 AVX512-BF16 and AMX, Arm BF16.
_BF16_WORDS = {"avx512_bf16", "amx_bf16", "bf16"}
_VNNI_WORDS = {"avx512_vnni", "avx_vnni", "amx_int8"}


# Numbers of mallopt's parameters, from glibc's malloc.h, and their values: for M_MMAP_THRESHOLD the most that glibc
# takes (half of an arena's heap), for M_TRIM_THRESHOLD several times what a batch needs.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_FROM_HEAP, _MOST_KEPT = 32 << 20, 128 << 20


@dataclass(frozen=True)
class Hardware:
    """What one process can use: `cuda_bf16` is None without a GPU, else whether that GPU has bf16 units."""

    name: str
    cpu_bf16: bool
    cuda_bf16: bool | None = None
    cpu_vnni: bool = True
    """whether int8 can have activations of 8 bits here, as far as /proc/cpuinfo says"""

    @property
    def cuda(self) -> bool:
        return self.cuda_bf16 is not None


@dataclass(frozen=True)
class Placement:
    """Where a run computes and how: decided once, recorded with the scores."""

    device: str
    """cpu or cuda"""
    precision: str
    """fp32, bf16, fp16 or int8"""


def look(use_gpu: bool = True) -> Hardware:
    """Describe the machine this is called on."""
    return Hardware(platform.node(), _cpu_has_bf16(), _cuda_has_bf16() if use_gpu else None, _cpu_has_vnni())


def decide(device: str, precision: str, machines: Sequence[Hardware], section: str = "model") -> Placement:
    """Choose one placement for all `machines`: none uses what another lacks, so a table has one precision.

    `device` is auto, cpu or cuda; `precision` auto, fp32, bf16, fp16 or int8; `section` is the section
    of the settings that errors name.

    Raises:
        SettingsError: the settings ask for what a machine does not have.
    """
    if not machines:
        raise ValueError("no machine to decide for")
    without_gpu = next((m.name for m in machines if not m.cuda), None)
    if device == "cuda" and without_gpu is not None:
        raise SettingsError(f"{section}.device cuda: {without_gpu} has no usable GPU; give it one or set auto or cpu")
    device = "cuda" if device != "cpu" and without_gpu is None else "cpu"
    if device == "cuda":
        lacking = next((m.name for m in machines if not m.cuda_bf16), None)
        best = "bf16" if lacking is None else "fp16"
    else:
        lacking = next((m.name for m in machines if not m.cpu_bf16), None)
        best = "bf16" if lacking is None else "fp32"
    if precision == "auto":
        return Placement(device, best)
    if precision == "bf16" and lacking is not None:
        raise SettingsError(f"{section}.precision bf16: {lacking} has no bf16 in hardware; set {best} or auto")
    if precision == "fp16" and device == "cpu":
        raise SettingsError(f"{section}.precision fp16 is for GPUs, and this run is on CPUs; set {best} or auto")
    if precision == "int8" and device == "cuda":
        raise SettingsError(f"{section}.precision int8 is for CPUs, and this run is on GPUs; set {best}, or device cpu")
    return Placement(device, precision)


def more_exact(placement: Placement, machines: Sequence[Hardware]) -> Placement:
    """The same device with the next more exact precision that all `machines` have; the last one is fp32."""
    if placement.precision == "int8":
        return decide("cpu", "auto", machines)
    better = "fp16" if placement == Placement("cuda", "bf16") else "fp32"
    return Placement(placement.device, better)


def cuda_device(address: str) -> str:
    """CUDA's name, in this process, for the GPU that Spark calls `address`.

    Spark's addresses are the machine's GPU numbers, as nvidia-smi shows them. CUDA numbers from 0 only the GPUs that
    the process may see: those in CUDA_VISIBLE_DEVICES, or those of its container.

    Raises:
        SettingsError: the process sees no such GPU.
    """
    import torch

    seen = torch.cuda.device_count()
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if address in visible[:seen]:
        return f"cuda:{visible.index(address)}"
    if visible and all(name.isdecimal() for name in visible):  # the machine's numbers too: this GPU is hidden
        raise SettingsError(
            f"{platform.node()}: CUDA_VISIBLE_DEVICES={','.join(visible)} hides GPU {address}, which Spark gives: "
            "unset it, or let the discovery script name only those"
        )
    if address.isdecimal() and int(address) < seen:
        return f"cuda:{int(address)}"
    if seen <= 1:  # a container's only GPU, whatever its number; if there is none, check_machine says so
        return "cuda:0"
    raise SettingsError(
        f"{platform.node()}: Spark gives a task GPU {address}, of {seen} that are numbered from 0: let the discovery "
        "script name them so, as conf/spark/gpus.sh does"
    )


def use_threads(n_threads: int) -> None:
    """Let this process compute with `n_threads` threads, as the Spark task was given, so that workers don't compete."""
    import torch

    torch.set_num_threads(n_threads)
    # For the tokenizer's own pool, which reads them when it first starts.
    os.environ["RAYON_NUM_THREADS"] = str(n_threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if n_threads > 1 else "false"


def keep_freed_memory() -> None:
    """Let this process keep up to 128 MB of what it frees, where its allocator is glibc's; elsewhere do nothing.

    Every batch allocates tensors like those that the last batch freed. By default glibc returns freed memory to the
    system and gets it back page by page, zeroed: some 3 % of a Spark worker's processor time on messages (measured).
    """
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, _MOST_FROM_HEAP)
            libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _cpu_has_bf16() -> bool:
    return bool(_BF16_WORDS & _cpu_words())


def _cpu_has_vnni() -> bool:
    words = _cpu_words()
    return not words or platform.machine() not in ("x86_64", "AMD64") or bool(_VNNI_WORDS & words)


def _cpu_words() -> set[str]:
    """What /proc/cpuinfo says that the processor has; nothing where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}


def _cuda_has_bf16() -> bool | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return all(torch.cuda.get_device_capability(i) >= (8, 0) for i in range(torch.cuda.device_count()))
