"""The demo's default model: a small encoder fine-tuned on a bank of made-up first-person statements.

    python -m bigfive_udf.demo.default_model --output models/default

About a minute and a half on two cores. The same seed gives the same weights on the same machine. But: a demonstration
model. The statements are short and to the point, real texts are not; see the README.md that is written beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from bigfive_udf.demo.model_card import model_card
from bigfive_udf.errors import BigFiveError, SettingsError
from bigfive_udf.model.artifact import EVALUATION, describe, load_artifact, new_artifact
from bigfive_udf.model.quiet import quiet_transformers
from bigfive_udf.traits import TRAITS, probability_column

STATEMENTS = Path(__file__).parent / "statements"
MAX_LENGTH = 256
THRESHOLD = 0.5
"""of every trait: both poles of the bank are equally frequent"""


def recipe(seed: int = 0) -> Any:
    """The `FinetuneOptions` of the default model; the card says how they were chosen."""
    from bigfive_udf.training.finetune import FinetuneOptions

    return FinetuneOptions(
        head="linear",
        pooling="mean",
        epochs=5,
        learning_rate=1e-4,
        freeze_embeddings=True,
        max_length=MAX_LENGTH,
        seed=seed,
    )


def read_bank() -> pd.DataFrame:
    """What the model is trained on: statements on one trait each, so that four of the five labels are missing."""
    files = [(trait, file) for trait in TRAITS for file in sorted(STATEMENTS.glob(f"{trait}*.csv"))]
    parts = [pd.read_csv(file).assign(trait=trait) for trait, file in files]
    return with_labels(pd.concat(parts, ignore_index=True))


def read_written_apart() -> pd.DataFrame:
    """What the model is evaluated on: statements by another author, who saw nothing of the bank."""
    return with_labels(pd.read_csv(STATEMENTS / "written_apart.csv"))


def with_labels(statements: pd.DataFrame) -> pd.DataFrame:
    """Add the five label columns to a table of text, trait and pole (high or low)."""
    high = (statements["pole"] == "high").astype(float)
    return statements.assign(**{trait: high.where(statements["trait"] == trait) for trait in TRAITS})


def unseen(bank: pd.DataFrame, held_out: pd.DataFrame) -> pd.DataFrame:
    """The bank without the statements that somebody else happened to write too, case and punctuation aside."""

    def words(texts: pd.Series) -> pd.Series:
        return texts.str.lower().str.replace(r"[^a-z0-9]+", " ", regex=True).str.strip()

    return bank[~words(bank["text"]).isin(words(held_out["text"]))].reset_index(drop=True)


def digest(bank: pd.DataFrame) -> str:
    """sha256 over the texts and labels that were trained on."""
    return hashlib.sha256(bank[["text", *TRAITS]].to_csv(index=False).encode()).hexdigest()


def build(output: Path, bank: pd.DataFrame, held_out: pd.DataFrame, base: str, options: Any) -> dict[str, Any]:
    """Fine-tune `base` on `bank`, evaluate it on `held_out`, write the artifact, and return its evaluation.

    Raises:
        OutputError: `output` exists or can't be written.
        ArtifactError: `base` is missing or damaged.
    """
    from bigfive_udf.training import base_models
    from bigfive_udf.training.finetune import finetune
    from bigfive_udf.training.opposites import with_opposites

    bank = unseen(bank, held_out)
    with new_artifact(output) as directory:
        encoder = base_models.locate(base)
        training = with_opposites(bank)
        print(f"Fine-tuning {base} on {len(bank)} statements and {len(training) - len(bank)} opposites made of them")
        model, tokenizer = finetune(training, encoder, options)
        with quiet_transformers():
            model.save_pretrained(directory)
            tokenizer.save_pretrained(directory)
        about: dict[str, Any] = {
            "head": options.head,
            "pooling": options.pooling,
            "thresholds": dict.fromkeys(TRAITS, THRESHOLD),
            "max_length": options.max_length,
            "languages": ["en"],
            "base_model": base_models.MINILM_NAME if base == base_models.MINILM else base,
            "training_data": f"sha256:{digest(bank)}",
        }
        describe(directory, **about)
        evaluation = _evaluate(directory, bank, held_out)
        (directory / EVALUATION).write_text(json.dumps(evaluation, indent=2) + "\n", encoding="utf-8")
        card = model_card(evaluation, table(evaluation), len(training) - len(bank))
        (directory / "README.md").write_text(card, encoding="utf-8")
        describe(directory, **about)  # again: the digest of the card belongs in it
    return evaluation


def _evaluate(directory: Path, bank: pd.DataFrame, held_out: pd.DataFrame) -> dict[str, Any]:
    """Score the held-out statements as any user would, and say how well that went."""
    from bigfive_udf.training.metrics import evaluate

    artifact = load_artifact(directory)
    scores = artifact.predict(held_out["text"].tolist(), precision="fp32")
    probabilities = scores[[probability_column(trait) for trait in TRAITS]].to_numpy(np.float64)
    measured = evaluate(held_out[list(TRAITS)].to_numpy(float), probabilities, artifact.thresholds)
    return {
        "split": "author",
        "split_description": (
            "tested on statements written apart from the bank, by somebody who saw nothing of it; none was trained on"
        ),
        "folds": 0,
        "rows": {"train": len(bank), "test": len(held_out)},
        "authors": {"train": 2, "test": 1},
        "intervals": "bootstrap over statements",
        "model_id": artifact.model_id,
        "precision": scores["precision"].iloc[0],
        **measured,
    }


def table(evaluation: dict[str, Any]) -> str:
    """The figures that matter, one line per trait."""
    header = f"{'':<18}{'ROC AUC':>8}  {'95 % interval':<14}{'accuracy':>9}{'majority':>10}{'F1':>7}{'ECE':>7}"
    lines = [header]
    for name, measured in [*evaluation["traits"].items(), ("macro average", evaluation["macro"])]:
        low, high = measured["roc_auc_ci"]
        lines.append(
            f"{name:<18}{measured['roc_auc']:>8.3f}  {f'{low:.3f} to {high:.3f}':<14}{measured['accuracy']:>9.3f}"
            f"{measured['majority_accuracy']:>10.3f}{measured['f1']:>7.3f}{measured['ece']:>7.3f}"
        )
    return "\n".join(line.rstrip() for line in lines)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(prog="python -m bigfive_udf.demo.default_model", description="Build the demo's default model.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory of the artifact")
    parser.add_argument("--if-missing", action="store_true", help="leave a model that is there as it is")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and order (default: %(default)s)")
    started = time.monotonic()
    try:
        args = parser.parse_args(arguments)
        if args.if_missing and args.output.exists():
            print(f"{args.output} is there already: nothing to do")
            return 0
        evaluation = build(args.output, read_bank(), read_written_apart(), "minilm", recipe(args.seed))
    except BigFiveError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    tested_on = f"{evaluation['rows']['test']} statements by another author"
    print(f"\n{args.output}: model {evaluation['model_id']}, tested on {tested_on}\n")
    print(table(evaluation))
    print(f"\n{time.monotonic() - started:.0f} s. A demonstration model: real texts are not like these statements.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
