"""Evaluate a model: an artifact and labelled texts in, its evaluation out.

python jobs/evaluate.py --config conf/evaluate.yaml --set model.path=... --set data.path=...
"""

from __future__ import annotations

from argparse import Namespace

from bigfive_udf.command_line import main, parser
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run
from bigfive_udf.settings.evaluate import EvaluateSettings
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.training.assessment import assess, check_writable, keep_evaluation, unseen_rows
from bigfive_udf.training.data import read_labelled, table_lines
from bigfive_udf.training.evaluation import evaluation_lines

FLAGS = parser(__doc__ or "")
FLAGS.add_argument(
    "--compare-splits",
    action="store_true",
    help="train the model's recipe again, split by author and at random, to see how much of a figure is the split",
)


def evaluate(args: Namespace, run: Run) -> str:
    settings = load_settings(EvaluateSettings, args.config, args.set)
    run.result |= {"settings": settings.model_dump()}
    artifact = load_artifact(settings.model.path, activation=settings.model.activation)
    labelled = read_labelled(settings.data)
    check_writable(artifact, labelled, settings)
    print(*table_lines(settings.data.path, labelled), sep="\n", flush=True)
    run.result |= {"model_id": artifact.model_id, "data": dict(labelled.counts)}

    unseen = unseen_rows(artifact, labelled)
    if args.compare_splits and unseen is not None and not unseen.any():
        evaluation = dict(artifact.evaluation)  # trained on all of these texts: keep the artifact's own evaluation
    else:
        evaluation = assess(artifact, labelled, settings)
        print(f"trained on: {evaluation['trained_on']}", "", *evaluation_lines(evaluation), "", sep="\n", flush=True)
    if args.compare_splits:
        from bigfive_udf.training.comparison import compare_splits, comparison_lines  # imports all of the training code

        evaluation["compare_splits"] = compare_splits(artifact, labelled, settings, run.run_id)
        print("", *comparison_lines(evaluation["compare_splits"]), "", sep="\n")
    run.result |= {"evaluation": evaluation}
    print(*keep_evaluation(artifact, evaluation, settings.output.path), sep="\n")
    return ""


if __name__ == "__main__":
    main("evaluate", FLAGS, evaluate)
