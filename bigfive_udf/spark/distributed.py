"""Fine-tuning in several processes: Spark's TorchDistributor starts them, transformers' Trainer lets them cooperate.

In local mode they all run on one machine, else each runs in a Spark task, on any hosts of the cluster. Every process
reads the base model and reads or writes checkpoints: on several hosts their paths must be shared.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyspark import SparkConf

from bigfive_udf.errors import SettingsError
from bigfive_udf.model import hardware
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.spark.machines import executors_hardware, is_local, slots
from bigfive_udf.spark.session import job_session
from bigfive_udf.training import base_models
from bigfive_udf.training.finetune import Epoch, Examples, Finetuned, FinetuneOptions, finetune

_WEIGHTS, _ABOUT = "together.safetensors", "together.json"


def finetune_together(processes: int, device: str) -> Callable[..., Finetuned]:
    """A function with the arguments and the result of `finetune` that trains in so many processes.

    `device` is auto (a GPU for each process where every machine has one), cpu or cuda.

    Raises:
        SettingsError: the cluster runs fewer tasks at a time than `processes`.
    """
    from pyspark.ml.torch.distributor import TorchDistributor

    spark = job_session("bigfive train")
    local = is_local(spark)
    places = slots(spark)
    if not local and places < processes:
        raise SettingsError(f"train.processes {processes}: the cluster runs {places} tasks at a time; set at most that")
    use_gpu = hardware.decide(device, "auto", executors_hardware(spark, device)).device == "cuda"
    check_gpus(spark.sparkContext.getConf(), use_gpu, local)
    distributor = TorchDistributor(num_processes=processes, local_mode=local, use_gpu=use_gpu)
    logging.getLogger("TorchDistributor").setLevel(logging.WARNING)  # else it logs two lines for every fold

    def together(
        training: Examples,
        base: str,
        options: FinetuneOptions,
        scratch: Path,
        *,
        validation: Examples | None = None,
    ) -> Finetuned:
        scratch.mkdir(parents=True, exist_ok=True)
        distributor.run(_one_process, training, base, options, str(scratch.resolve()), validation)
        return _finished(base, options, scratch)

    return together


def check_gpus(conf: SparkConf, use_gpu: bool, local: bool) -> None:
    """Raise SettingsError where TorchDistributor would not find the GPUs that there are."""
    key = "spark.driver.resource.gpu.amount" if local else "spark.task.resource.gpu.amount"
    if use_gpu and not conf.contains(key):
        raise SettingsError(
            f"train.processes above 1 on GPUs: Spark does not know of them; set {key}"
            + (" and spark.driver.resource.gpu.discoveryScript (conf/spark/gpus.sh)" if local else "")
            + ", train.processes 1, or train.device cpu"
        )


def _one_process(
    training: Examples, base: str, options: FinetuneOptions, scratch: str, validation: Examples | None
) -> None:
    """Fine-tune as one of the processes; the first process saves the model."""
    import os

    from safetensors.torch import save_file

    made = finetune(training, base, options, Path(scratch), validation=validation)
    if int(os.environ["RANK"]) == 0:
        save_file({name: t.contiguous() for name, t in made.model.state_dict().items()}, Path(scratch) / _WEIGHTS)
        about = {"max_length": made.max_length, "epochs": [asdict(e) for e in made.epochs], "kept": made.kept}
        (Path(scratch) / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _finished(base: str, options: FinetuneOptions, scratch: Path) -> Finetuned:
    from safetensors.torch import load_file

    with quiet_transformers():
        model, tokenizer = base_models.load(base, options.head, options.pooling)
    model.load_state_dict(load_file(scratch / _WEIGHTS))
    about: dict[str, Any] = json.loads((scratch / _ABOUT).read_text(encoding="utf-8"))
    epochs = [Epoch(**epoch) for epoch in about["epochs"]]
    return Finetuned(model.eval(), tokenizer, about["max_length"], epochs, about["kept"])
