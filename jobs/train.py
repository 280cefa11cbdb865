"""Fine-tune a model: a labelled table in, an artifact with its evaluation and model card out.

python jobs/train.py --config conf/train.yaml --set data.path=... --set model.base=... --set output.path=...
"""

from __future__ import annotations

import os
from argparse import Namespace
from functools import partial
from pathlib import Path

from bigfive_udf.command_line import main, parser
from bigfive_udf.model.artifact import check_new
from bigfive_udf.runs import Run
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.train import TrainSettings
from bigfive_udf.training import base_models
from bigfive_udf.training.card import check_notes
from bigfive_udf.training.data import read_labelled, table_lines
from bigfive_udf.training.plan import holdout_plan
from bigfive_udf.training.provenance import refuse_seen
from bigfive_udf.training.state import training_state

FLAGS = parser(__doc__ or "")


def train_model(args: Namespace, run: Run) -> str:
    settings = load_settings(TrainSettings, args.config, args.set)
    run.result |= {"settings": settings.model_dump()}
    # Find mistakes before the first step, and most of them before torch is loaded.
    check_new(settings.output.path)
    check_notes(settings.output.notes)
    labelled = read_labelled(settings.data)
    test = read_labelled(settings.data, settings.data.test_path) if settings.data.test_path is not None else None
    print(*table_lines(settings.data.path, labelled), sep="\n")
    if test is not None:
        print(*table_lines(settings.data.test_path or "", test), sep="\n")
    run.result |= {"data": dict(labelled.counts)}
    plan = holdout_plan(settings, labelled, test)
    base = base_models.locate(settings.model.base)
    refuse_seen(base, "model.base", labelled, test)

    from bigfive_udf.training.evaluation import evaluation_lines
    from bigfive_udf.training.finetune import check_trainer_arguments, finetune
    from bigfive_udf.training.held_out import TrainingRecipe
    from bigfive_udf.training.procedure import identity_of, train
    from bigfive_udf.training.publish import write_artifact

    check_trainer_arguments(settings.train.trainer)
    run_training = finetune
    if settings.train.processes > 1:
        from bigfive_udf.spark.distributed import finetune_together

        run_training = finetune_together(settings.train.processes, settings.train.device)
    with training_state(Path(settings.output.path), identity_of(settings, labelled, test, base), run.run_id) as state:
        run.keep_record = partial(state.write_record, run.run_id)
        check_new(settings.output.path)  # again: a run that held the lock until now may have made it
        print(*state.lines(), sep="\n", end="")
        outcome = train(TrainingRecipe.of(settings, base, state, run_training), labelled, test, plan)
        evaluation = write_artifact(settings, labelled, test, plan, base, outcome, state.work)
        state.done()

    run.result |= {"model_id": evaluation["model_id"], "evaluation": evaluation}
    print("", *evaluation_lines(evaluation), "", sep="\n")
    card = os.path.join(settings.output.path, "README.md")
    return f"{settings.output.path}: model {evaluation['model_id']}; what is known of it, with pictures: {card}"


if __name__ == "__main__":
    main("train", FLAGS, train_model)
