"""Device, precision and threads: decided for all machines together, from what they really have."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.errors import SettingsError
from bigfive_udf.model.hardware import Hardware, Placement, cuda_device, decide, look

OLD = Hardware("old", cpu_bf16=False)
NEW = Hardware("new", cpu_bf16=True)
A100 = Hardware("a100", cpu_bf16=True, cuda_bf16=True)
T4 = Hardware("t4", cpu_bf16=False, cuda_bf16=False)


@pytest.mark.parametrize(
    ("machines", "device", "precision", "expected"),
    [
        # auto: bf16 where all have it, else fp32 on a CPU and fp16 on a GPU
        ([NEW], "auto", "auto", "cpu bf16"),
        ([OLD], "auto", "auto", "cpu fp32"),
        ([NEW, OLD, NEW], "auto", "auto", "cpu fp32"),
        ([A100], "auto", "auto", "cuda bf16"),
        ([T4], "auto", "auto", "cuda fp16"),
        ([A100, T4], "auto", "auto", "cuda fp16"),
        # a GPU that not all have is a GPU that none uses
        ([A100, NEW], "auto", "auto", "cpu bf16"),
        ([A100, OLD], "auto", "auto", "cpu fp32"),
        ([A100, T4, NEW], "auto", "auto", "cpu fp32"),
        # what is asked for
        ([A100], "cpu", "auto", "cpu bf16"),
        ([T4], "cpu", "auto", "cpu fp32"),
        ([A100, T4], "cuda", "auto", "cuda fp16"),
        ([T4], "cuda", "fp32", "cuda fp32"),
        ([T4], "auto", "fp16", "cuda fp16"),
        ([A100], "cuda", "bf16", "cuda bf16"),
        ([OLD], "auto", "fp32", "cpu fp32"),
        ([NEW], "cpu", "bf16", "cpu bf16"),
        ([OLD, NEW], "auto", "int8", "cpu int8"),
        ([A100], "cpu", "int8", "cpu int8"),
    ],
)
def test_one_device_and_one_precision_for_all_machines(machines, device, precision, expected):
    assert decide(device, precision, machines) == Placement(*expected.split())


@pytest.mark.parametrize(
    ("machines", "device", "precision", "message"),
    [
        (
            [A100, NEW],
            "cuda",
            "auto",
            "model.device cuda: new has no usable GPU; give it one or set auto or cpu",
        ),
        ([NEW, OLD], "auto", "bf16", "model.precision bf16: old has no bf16 in hardware; set fp32 or auto"),
        ([A100, T4], "cuda", "bf16", "model.precision bf16: t4 has no bf16 in hardware; set fp16 or auto"),
        ([T4], "cpu", "bf16", "model.precision bf16: t4 has no bf16 in hardware; set fp32 or auto"),
        ([NEW], "auto", "fp16", "model.precision fp16 is for GPUs, and this run is on CPUs; set bf16 or auto"),
        ([OLD], "auto", "fp16", "model.precision fp16 is for GPUs, and this run is on CPUs; set fp32 or auto"),
        ([A100], "cpu", "fp16", "model.precision fp16 is for GPUs, and this run is on CPUs; set bf16 or auto"),
        ([T4], "auto", "int8", "model.precision int8 is for CPUs, and this run is on GPUs; set fp16, or device cpu"),
    ],
)
def test_what_a_machine_lacks_is_refused_with_its_name_and_what_it_has(machines, device, precision, message):
    with pytest.raises(SettingsError) as refused:
        decide(device, precision, machines)
    assert str(refused.value) == message


ANY_MACHINES = st.lists(
    st.builds(Hardware, st.sampled_from("abc"), st.booleans(), st.none() | st.booleans()), min_size=1, max_size=5
)


@given(
    ANY_MACHINES, st.sampled_from(["auto", "cpu", "cuda"]), st.sampled_from(["auto", "fp32", "bf16", "fp16", "int8"])
)
def test_whatever_is_decided_every_machine_can_do(machines, device, precision):
    try:
        placement = decide(device, precision, machines)
    except SettingsError:
        assert (device, precision) != ("auto", "auto")
        return
    assert placement == decide(device, precision, machines[::-1]), "the order in which executors answer decides nothing"
    assert device in ("auto", placement.device)
    assert precision in ("auto", placement.precision)
    for machine in machines:
        if placement.device == "cuda":
            assert machine.cuda
        if placement.precision == "bf16":
            assert machine.cpu_bf16 if placement.device == "cpu" else machine.cuda_bf16
        if placement.precision == "fp16":
            assert placement.device == "cuda"
        if placement.precision == "int8":
            assert placement.device == "cpu"


def test_no_machine_at_all_is_not_taken_for_a_machine_with_a_gpu():
    with pytest.raises(ValueError, match="machine"):
        decide("auto", "auto", [])


# --- this machine ---


def test_bf16_of_this_processor_is_what_grep_finds():
    found = subprocess.run(["grep", "-qwE", "avx512_bf16|amx_bf16|bf16", "/proc/cpuinfo"]).returncode == 0
    assert look(use_gpu=False) == Hardware(platform.node(), cpu_bf16=found)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch tells only of x86")
def test_bf16_of_this_processor_is_what_torch_says():
    import torch

    assert look(use_gpu=False).cpu_bf16 == (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def test_a_gpu_is_seen_only_where_there_is_one_and_where_it_is_wanted():
    smi = shutil.which("nvidia-smi")
    present = smi is not None and subprocess.run([smi, "-L"], capture_output=True, text=True).stdout.startswith("GPU")
    assert not look(use_gpu=False).cuda
    if not present:
        assert not look().cuda


@pytest.mark.parametrize(
    ("address", "visible", "seen", "expected"),
    [
        ("1", None, 2, "cuda:1"),
        ("3", "2,3", 2, "cuda:1"),  # CUDA counts what the process may see
        ("0", "1,0", 2, "cuda:1"),
        ("1", "GPU-aaaa,GPU-bbbb", 2, "cuda:1"),
        ("0", None, 0, "cuda:0"),  # that there is none is said by what looks at the machine
        ("GPU-bbbb", "GPU-aaaa,GPU-bbbb", 2, "cuda:1"),
        ("MIG-cccc", None, 1, "cuda:0"),
        ("5", None, 1, "cuda:0"),  # in a container that was given the machine's sixth
    ],
)
def test_a_task_computes_on_the_gpu_that_spark_gave_it(monkeypatch, address, visible, seen, expected):
    _see(monkeypatch, visible, seen)
    assert cuda_device(address) == expected


@pytest.mark.parametrize(
    ("address", "visible", "message"),
    [
        ("2", None, "gives a task GPU 2, of 2 that are numbered from 0: .*gpus.sh"),
        ("GPU-cccc", None, "GPU GPU-cccc, of 2"),
        ("0", "1,2", "CUDA_VISIBLE_DEVICES=1,2 hides GPU 0"),  # by CUDA's numbers it would be another task's
        ("0", "2,3", "hides GPU 0"),
    ],
)
def test_a_gpu_that_its_process_does_not_see_is_refused(monkeypatch, address, visible, message):
    _see(monkeypatch, visible, 2)
    with pytest.raises(SettingsError, match=message):
        cuda_device(address)


def _see(monkeypatch, visible, seen):
    """There is no GPU in the tests: torch is told how many there are."""
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)


def test_a_process_computes_with_the_threads_it_was_given_and_no_more():
    program = """
import json, os, sys
from bigfive_udf.model.hardware import use_threads
use_threads(int(sys.argv[1]))
import tokenizers, torch
before = len(os.listdir("/proc/self/task"))
a = torch.randn(1500, 1500)
a @ a
after_torch = len(os.listdir("/proc/self/task"))
words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
words.encode_batch(["a b"] * 5000)
print(json.dumps([torch.get_num_threads(), after_torch - before, len(os.listdir("/proc/self/task")) - after_torch]))
"""
    told = {
        n: json.loads(
            subprocess.run([sys.executable, "-c", program, str(n)], capture_output=True, text=True, check=True).stdout
        )
        for n in (1, 3)
    }
    assert told[1] == [1, 0, 0], "one thread for torch and the tokenizer: the one that is there"
    assert told[3][0] == 3
    assert min(told[3][1:]) > 0, "or the check sees nothing"


_FREED = """
import resource
import sys
from pathlib import Path
import torch
from bigfive_udf.model.artifact import load_artifact

def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])

torch.ones(1)
for path in sys.argv[1:]:
    load_artifact(path).predict(["one text"], device="cpu", precision="fp32")
before = resident_pages()
tensors = [torch.ones(4 << 20) for _ in range(3)]  # of 16 MB
del tensors
print((resident_pages() - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is another one")
def test_a_process_that_scores_keeps_freed_memory_for_the_next_batch(checkpoint):
    left_alone, kept = (
        int(subprocess.run([sys.executable, "-c", _FREED, *models], check=True, capture_output=True).stdout)
        for models in ([], [str(checkpoint())])
    )
    assert left_alone < 8e6
    assert kept > 45e6
