"""Engines that turn texts into probabilities in one process: this project's, and others set up as their guides say.

Each takes the directory of a checkpoint and returns a function: texts -> probabilities, (n, 5) in trait order. All use
as many threads as torch is set to. The other engines read batches of 32 texts in the order of arrival, padded to the
longest text and truncated at 512 tokens. Those called "sorted" sort the texts by length first, the oldest remedy
against padding, which no guide has: a comparison with them shows what the rest of this project is for. Ours read a
text to its end, but those called "cut" truncate it as the others do. `prepare` makes the files that engines need beside
a checkpoint.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bigfive_udf.model import hardware, int8
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.model.hardware import Placement
from bigfive_udf.quantizing.search import Search, tensors_of
from bigfive_udf.traits import TRAITS

Score = Callable[[Sequence[str]], np.ndarray]

BATCH_SIZE, MAX_LENGTH = 32, 512
_ONNX, _ONNX_INT8, _OPENVINO_INT8 = "model.onnx", "model-int8.onnx", "openvino-int8.xml"
_CALIBRATION = 200
_OURS_INT8 = "ours-int8.safetensors"


def ours(path: Path, precision: str, max_windows: int | None = None) -> Score:
    artifact = load_artifact(path)
    scorer = artifact.scorer(Placement("cpu", precision), artifact.options(max_windows=max_windows))
    return lambda texts: scorer.score(texts).probabilities


def ours_int8(path: Path) -> Score:
    artifact = load_artifact(path)
    scorer = Search(artifact, artifact.options()).scorer(load_file(_prepared(path) / _OURS_INT8))
    return lambda texts: scorer.score(texts).probabilities


def transformers_loop(path: Path, dtype: torch.dtype = torch.float32) -> Score:
    """transformers as its text classification guide runs a model."""
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype).eval()

    @torch.inference_mode()
    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        return model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits.float().numpy()

    return _in_batches(path, run)


def onnx_runtime(path: Path, file: str) -> Score:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(_prepared(path) / file), options, providers=["CPUExecutionProvider"])
    return _in_batches(path, lambda batch: session.run(None, batch)[0])


def openvino(path: Path, file: str, precision: str | None = None) -> Score:
    """By default OpenVINO uses bf16 where available, also for the layers that an int8 model leaves unquantized."""
    import openvino as ov

    # By default each process pins its threads to the first cores, so two processes would share cores.
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    options = threads | ({} if precision is None else {"INFERENCE_PRECISION_HINT": precision})
    model = ov.Core().compile_model(_prepared(path) / file, "CPU", options)
    return _in_batches(path, lambda batch: model(batch)[0])


def sorted_by_length(make: Callable[[Path], Score]) -> Callable[[Path], Score]:
    """The same engine, given texts of similar length together."""

    def sorted_engine(path: Path) -> Score:
        score = make(path)

        def sorted_score(texts: Sequence[str]) -> np.ndarray:
            order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
            found = np.empty((len(texts), len(TRAITS)), np.float32)
            found[order] = score([texts[i] for i in order])
            return found

        return sorted_score

    return sorted_engine


_OURS: dict[str, Callable[[Path], Score]] = {
    "ours fp32": lambda path: ours(path, "fp32"),
    "ours bf16": lambda path: ours(path, "bf16"),
    "ours int8": ours_int8,
    "ours fp32 cut": lambda path: ours(path, "fp32", max_windows=1),
    "ours bf16 cut": lambda path: ours(path, "bf16", max_windows=1),
}
_OTHERS: dict[str, Callable[[Path], Score]] = {
    "transformers": transformers_loop,
    "transformers bf16": lambda path: transformers_loop(path, torch.bfloat16),
    "onnxruntime": lambda path: onnx_runtime(path, _ONNX),
    "onnxruntime int8": lambda path: onnx_runtime(path, _ONNX_INT8),
    "openvino": lambda path: openvino(path, _ONNX, "f32"),
    "openvino bf16": lambda path: openvino(path, _ONNX, "bf16"),
    "openvino int8": lambda path: openvino(path, _OPENVINO_INT8),
}
ENGINES = _OURS | _OTHERS | {f"{name} sorted": sorted_by_length(make) for name, make in _OTHERS.items()}


def available() -> list[str]:
    """Engines that can run here: ONNX Runtime and OpenVINO need `make bench-peers`, bf16 a processor that has it."""
    missing = set() if hardware.look(use_gpu=False).cpu_bf16 else {name for name in ENGINES if "bf16" in name}
    if not _has("onnxruntime", "onnx"):
        missing |= {name for name in ENGINES if name.startswith("onnxruntime")}
    if not _has("openvino", "onnx"):
        missing |= {name for name in ENGINES if name.startswith("openvino")}
    if not _has("nncf"):
        missing |= {name for name in ENGINES if name.startswith("openvino int8")}
    return [name for name in ENGINES if name not in missing]


def prepare(path: Path, engines: Sequence[str], texts: Sequence[str]) -> None:
    """Make the files that some engines run; int8 is calibrated on `texts`."""
    directory = _prepared(path)
    directory.mkdir(exist_ok=True)
    if "ours int8" in engines:
        _quantize(path, directory / _OURS_INT8, texts)
    if not any(name.startswith(("onnx", "openvino")) for name in engines):
        return
    _export(path, directory / _ONNX)
    if any(name.startswith("onnxruntime int8") for name in engines):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(directory / _ONNX, directory / _ONNX_INT8, weight_type=QuantType.QInt8, per_channel=True)
    if any(name.startswith("openvino int8") for name in engines):
        import nncf
        import openvino as ov

        model = ov.Core().read_model(directory / _ONNX)
        batches = nncf.Dataset(list(_encoded(_tokenizer(path), texts[:_CALIBRATION], 1)))
        quantized = nncf.quantize(model, batches, model_type=nncf.ModelType.TRANSFORMER, subset_size=_CALIBRATION)
        ov.save_model(quantized, directory / _OPENVINO_INT8)


def are_whole(path: Path, texts: Sequence[str]) -> np.ndarray:
    """Which texts are not truncated by the other engines: (n,) of bool. Of the others they score another text."""
    return np.array([len(ids) <= MAX_LENGTH for ids in _tokenizer(path)(list(texts), verbose=False)["input_ids"]])


def _quantize(path: Path, target: Path, texts: Sequence[str]) -> None:
    """Put every possible product in int8, whatever that does to the labels: only speed is measured here."""
    artifact = load_artifact(path)
    search = Search(artifact, artifact.options())
    save_file(
        tensors_of(search.quantized(texts[:_CALIBRATION], exact_columns=16, bits=int8.most_bits()), search.names),
        target,
    )


def _export(path: Path, target: Path) -> None:
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    ids, mask = torch.ones(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.int64)
    mask[1, 8:] = 0  # without padding in the example the exported model would not look at the mask
    free = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=MAX_LENGTH)}
    torch.onnx.export(
        model, (), kwargs={"input_ids": ids, "attention_mask": mask}, f=str(target), dynamo=True, verbose=False,
        input_names=["input_ids", "attention_mask"], output_names=["logits"],
        dynamic_shapes={"input_ids": free, "attention_mask": free},
    )  # fmt: skip


def _in_batches(path: Path, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Score:
    tokenizer = _tokenizer(path)

    def score(texts: Sequence[str]) -> np.ndarray:
        logits = np.concatenate([run(batch) for batch in _encoded(tokenizer, texts, BATCH_SIZE)])
        return 1 / (1 + np.exp(-logits))

    return score


def _encoded(tokenizer: Any, texts: Sequence[str], rows: int) -> Iterator[dict[str, np.ndarray]]:
    for at in range(0, len(texts), rows):
        batch = tokenizer(
            list(texts[at : at + rows]), padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="np"
        )
        yield {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def _tokenizer(path: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(path)


def _prepared(path: Path) -> Path:
    return path.with_name(f"{path.name}-prepared")


def _has(*packages: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in packages)
