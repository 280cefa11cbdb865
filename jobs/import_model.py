r"""Turn an existing model into an artifact: a Hugging Face checkpoint, or the known Keras model.

python jobs/import_model.py --config conf/import_model.yaml --set source.path=... --set output.path=...

The known Keras model is a TFDistilBertModel inside a custom layer, whose first token goes through Dense 256 ReLU,
Dropout, Dense 128 ReLU, Dropout and Dense 5 sigmoid. It is saved by save_weights (.weights.h5, .h5) or model.save
(.keras, .h5):

python jobs/import_model.py --set source.path=model.weights.h5 --set source.base=distilbert-base-uncased \
    --set source.labels=[E,N,A,C,O] --set output.path=models/mine
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from bigfive_udf.command_line import main, parser
from bigfive_udf.importing.hugging_face import write_checkpoint
from bigfive_udf.importing.keras import write_keras
from bigfive_udf.importing.writing import Imported, finish, new_import
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.runs import Run
from bigfive_udf.settings.import_model import ImportSettings, SourceSettings
from bigfive_udf.settings.loading import load_settings

FLAGS = parser(__doc__ or "")


def import_model(args: Namespace, run: Run) -> str:
    settings = load_settings(ImportSettings, args.config, args.set)
    source, output = settings.source, settings.output.path
    run.result |= {"settings": settings.model_dump()}
    print(f"import: {source.path} ({source.kind}) -> {output}", flush=True)
    with new_import(output) as directory:
        imported = _written(directory, source)
        finish(
            directory,
            imported,
            source=source.path,
            max_length=settings.model.max_length,
            languages=settings.model.languages,
            thresholds=settings.labels.thresholds,
        )
    artifact = load_artifact(output)
    about = {"model_id": artifact.model_id, "max_length": artifact.max_length, "thresholds": dict(artifact.thresholds)}
    run.result |= about | {"outputs": list(imported.outputs), "notes": list(imported.notes)}
    print(*(f"  {note}" for note in imported.notes), sep="\n")
    print(f"  outputs, in the model's order: {', '.join(imported.outputs)}")
    print(
        f"  windows of {artifact.max_length} tokens; set model.max_length to what it was trained with, if that differs"
    )
    print(f"done: {output}, model {artifact.model_id}")
    print("  it has no evaluation.json, so nothing is known about how good it is; with labelled texts, find out:")
    print(f"  python jobs/evaluate.py --set model.path={output} --set data.path=...")
    return ""


def _written(directory: Path, source: SourceSettings) -> Imported:
    if source.kind == "keras":
        return write_keras(directory, source.path, base=source.base or "", labels=source.labels or [])
    return write_checkpoint(
        directory, source.path, labels=source.labels, activation=source.activation, base=source.base
    )


if __name__ == "__main__":
    main("import_model", FLAGS, import_model)
