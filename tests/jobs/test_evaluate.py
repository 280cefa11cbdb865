"""The evaluate job tells the truth about a model: on texts that it has not seen, or it says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bigfive_udf.errors import ArtifactError, InputError, SettingsError
from bigfive_udf.model.artifact import load_artifact
from bigfive_udf.traits import TRAITS, probability_column
from support.jobs_here import run_alone, run_here
from support.labelled import WORDS, planted

PROBABILITIES = [probability_column(trait) for trait in TRAITS]


@pytest.fixture(scope="module")
def trained(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the train job with three parts, and the table it was trained on beside it. Copy it to change it."""
    folder = tmp_path_factory.mktemp("trained")
    planted(authors=40, texts=10, words=4).to_csv(folder / "labelled.csv", index=False)
    settings = {
        "data.path": str(folder / "labelled.csv"),
        "data.author_column": "author",
        "split.folds": 0,
        "split.fractions": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "model.base": str(checkpoint("bert", known=tuple(WORDS))),
        "model.pooling": "mean",
        "train.epochs": 8,
        "train.learning_rate": 5e-3,
        "train.head_rate_factor": 2.0,
        "train.batch_size": 16,
        "train.precision": "fp32",
        "evaluation.resamples": 200,
        "output.path": str(folder / "model"),
    }
    run_here("train", settings)
    return folder / "model"


@pytest.fixture
def artifact(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be evaluated."""
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "model"))


@pytest.fixture
def basics(artifact: Path, trained: Path) -> dict[str, Any]:
    return {
        "model.path": str(artifact),
        "model.device": "cpu",
        "data.path": str(trained.parent / "labelled.csv"),
        "data.author_column": "author",
        "evaluation.resamples": 200,
    }


def unseen(tmp_path: Path, authors: int = 20) -> tuple[Path, pd.DataFrame]:
    """A table by other authors."""
    frame = planted(authors=authors, texts=6, words=4, seed=7)
    frame["author"] = "new-" + frame["author"]
    frame.to_csv(tmp_path / "new.csv", index=False)
    return tmp_path / "new.csv", frame


def test_texts_and_authors_that_were_trained_on_are_left_out(basics, artifact, capsys) -> None:
    run = run_here("evaluate", basics)
    evaluation = run.result["evaluation"]
    split = pd.read_parquet(artifact / "split.parquet")
    frame = pd.read_csv(basics["data.path"])
    test = frame[(split["part"] == "test").to_numpy()]
    assert evaluation["rows"] == {"test": len(test)}
    assert evaluation["authors"] == {"test": test["author"].nunique()}
    assert evaluation["split"] == "author"
    trained_with = json.loads((artifact / "evaluation.json").read_text())
    assert trained_with == evaluation
    said = load_artifact(artifact).predict(test["text"].tolist(), device="cpu", precision="fp32")[PROBABILITIES]
    expected = np.mean([roc_auc_score(test[t], said[probability_column(t)]) for t in TRAITS])
    assert evaluation["macro"]["roc_auc"] == pytest.approx(expected, abs=1e-4)
    assert (
        f"trained on: {len(frame) - len(test)} of 400 texts, or others by their authors: left out"
        in capsys.readouterr().out
    )


def test_it_finds_what_training_found(basics, trained) -> None:
    run = run_here("evaluate", basics)
    before = json.loads((trained / "evaluation.json").read_text())
    for trait in TRAITS:
        assert run.result["evaluation"]["traits"][trait] == before["traits"][trait]


def test_an_earlier_evaluation_is_kept_and_the_artifact_stays_whole(basics, artifact) -> None:
    first = (artifact / "evaluation.json").read_text()
    model_id = load_artifact(artifact).model_id
    run_here("evaluate", basics)
    (earlier,) = artifact.glob("evaluation-*.json")
    assert earlier.read_text() == first
    written = datetime.strptime(earlier.stem, "evaluation-%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    os.utime(artifact / "evaluation.json", (written, written))  # as if two had ended within a second
    run_here("evaluate", basics)
    assert len(list(artifact.glob("evaluation-*.json"))) == 2
    assert load_artifact(artifact).model_id == model_id
    assert load_artifact(artifact).evaluation["evaluated_at"]


def test_another_file_can_take_the_evaluation(basics, artifact, tmp_path) -> None:
    before = (artifact / "evaluation.json").read_text()
    run = run_here("evaluate", basics | {"output.path": str(tmp_path / "out" / "e.json")})
    assert json.loads((tmp_path / "out" / "e.json").read_text()) == run.result["evaluation"]
    assert (artifact / "evaluation.json").read_text() == before


def test_a_table_of_nothing_but_seen_texts_is_refused(basics, artifact, tmp_path) -> None:
    split = pd.read_parquet(artifact / "split.parquet")
    seen = pd.read_csv(basics["data.path"])[(split["part"] != "test").to_numpy()]
    seen.to_csv(tmp_path / "seen.csv", index=False)
    with pytest.raises(InputError, match=rf"was trained on all {len(seen)} texts .* data\.seen=keep"):
        run_here("evaluate", basics | {"data.path": str(tmp_path / "seen.csv")})
    renamed = seen.assign(text="so " + seen["text"])
    renamed.to_csv(tmp_path / "seen.csv", index=False)
    with pytest.raises(InputError, match="or on others by their authors"):
        run_here("evaluate", basics | {"data.path": str(tmp_path / "seen.csv")})


def test_flattering_figures_are_not_put_where_the_score_job_reads_them(basics, tmp_path, artifact, capsys) -> None:
    with pytest.raises(SettingsError, match=r"data\.seen keep: \d+ of 400 texts were trained on"):
        run_here("evaluate", basics | {"data.seen": "keep"})
    with pytest.raises(SettingsError, match=r"data\.seen keep"):
        run_here("evaluate", basics | {"data.seen": "keep", "output.path": f"{artifact}/../model/evaluation.json"})
    run = run_here("evaluate", basics | {"data.seen": "keep", "output.path": str(tmp_path / "e.json")})
    assert run.result["evaluation"]["rows"] == {"test": 400}
    assert run.result["evaluation"]["split"] == "random"
    assert run.result["evaluation"]["trained_on"].endswith("of 400 texts, or others by their authors: kept")
    assert "they flatter" in capsys.readouterr().out


def test_a_model_that_does_not_know_its_authors_claims_no_author_split(basics, tmp_path, checkpoint, capsys) -> None:
    planted(authors=20, texts=6, words=4).drop(columns="author").to_csv(tmp_path / "nobody.csv", index=False)
    settings = {
        "data.path": str(tmp_path / "nobody.csv"),
        "split.folds": 2,
        "model.base": str(checkpoint("bert", known=tuple(WORDS))),
        "train.epochs": 1,
        "train.precision": "fp32",
        "evaluation.resamples": 100,
        "output.path": str(tmp_path / "nobody"),
    }
    run_here("train", settings)
    path, _ = unseen(tmp_path)
    run = run_here("evaluate", basics | {"model.path": str(tmp_path / "nobody"), "data.path": str(path)})
    assert run.result["evaluation"]["split"] == "random"
    assert run.result["evaluation"]["trained_on"] == "none of these texts; by whom is not known"
    assert "warning: a random split" in capsys.readouterr().out


def test_a_table_by_new_authors(basics, tmp_path) -> None:
    path, frame = unseen(tmp_path)
    run = run_here("evaluate", basics | {"data.path": str(path)})
    assert run.result["evaluation"]["rows"] == {"test": len(frame)}
    assert run.result["evaluation"]["trained_on"] == "none of these texts"


def test_a_plain_checkpoint_is_evaluated_too_but_nobody_knows_what_it_has_seen(
    basics, tmp_path, checkpoint, capsys
) -> None:
    import shutil

    plain = Path(shutil.copytree(checkpoint("distilbert"), tmp_path / "plain"))
    path, _ = unseen(tmp_path)
    run_here("evaluate", basics | {"model.path": str(plain), "data.path": str(path)})
    evaluation = load_artifact(plain).evaluation
    assert (evaluation["split"], evaluation["trained_on"]) == ("random", "not known")
    assert evaluation["verdict"]["summary"].startswith("no better than chance")
    assert load_artifact(plain).better_than_chance("openness") is False
    assert "warning" in capsys.readouterr().out


def test_the_median_is_the_one_of_training(basics, artifact, tmp_path) -> None:
    path, frame = unseen(tmp_path)
    frame["openness"] = frame["openness"] * 10.0
    frame.to_csv(path, index=False)
    settings = basics | {"data.path": str(path), "data.cut": {"openness": "median"}}
    with pytest.raises(InputError, match=r"does not say at which score of openness .* data\.cut=\{openness: NUMBER\}"):
        run_here("evaluate", settings)
    about = json.loads((artifact / "training.json").read_text()) | {"cuts": {"openness": 4.0}}
    (artifact / "training.json").write_text(json.dumps(about))
    with pytest.raises(ArtifactError, match=r"training\.json is not the file that was written"):
        run_here("evaluate", settings)  # an artifact is immutable
    description = json.loads((artifact / "bigfive.json").read_text())
    del description["files"]["training.json"]
    (artifact / "bigfive.json").write_text(json.dumps(description))
    run = run_here("evaluate", settings)
    assert run.result["evaluation"]["traits"]["openness"]["positives"] == (frame["openness"] == 10).sum()


def test_the_leak_is_a_number(basics, tmp_path, capsys, checkpoint) -> None:
    """Authors who write nothing but their own few words, and labels that have nothing to do with them."""
    rng = np.random.default_rng(3)
    rows = []
    for a in range(24):
        own = list(rng.choice(WORDS, 3, replace=False))
        labels = rng.integers(0, 2, 5)
        rows += [(f"author-{a}", " ".join(rng.choice(own, 4)), *labels) for _ in range(12)]
    frame = pd.DataFrame(rows, columns=["author", "text", *TRAITS])
    frame.to_csv(tmp_path / "own.csv", index=False)
    settings = basics | {"data.path": str(tmp_path / "own.csv")}
    with pytest.raises(ArtifactError, match=r"set model\.base=DIR"):
        run_here("evaluate", settings, "--compare-splits")  # an artifact does not tell where its base lay
    settings |= {"model.base": str(checkpoint("bert", known=tuple(WORDS)))}
    run = run_here("evaluate", settings, "--compare-splits")
    compared = run.result["evaluation"]["compare_splits"]
    random, author = (compared[by]["macro"]["roc_auc"] for by in ("random", "author"))
    assert random > 0.65 > 0.6 > author
    assert compared["leak"] == pytest.approx(random - author, abs=1e-4)
    assert compared["author"]["verdict"]["summary"] == "no better than chance for any of 5 traits"
    printed = capsys.readouterr().out
    assert f"the leak: {compared['leak']:+.3f}" in printed
    assert not list(Path(basics["model.path"]).parent.glob("*.compare-*")), "nothing is left behind"


@pytest.mark.slow
def test_splits_are_compared_on_the_training_table_too(basics, artifact, tmp_path, checkpoint) -> None:
    """All its rows were seen: the evaluation that is there stays, and the comparison is added to it."""
    split = pd.read_parquet(artifact / "split.parquet")
    seen = pd.read_csv(basics["data.path"])[(split["part"] != "test").to_numpy()]
    seen = seen.groupby("author").head(3)
    seen.to_csv(tmp_path / "seen.csv", index=False)
    before = json.loads((artifact / "evaluation.json").read_text())
    settings = basics | {"data.path": str(tmp_path / "seen.csv")}
    settings |= {"model.base": str(checkpoint("bert", known=tuple(WORDS)))}
    run_here("evaluate", settings, "--compare-splits")
    after = json.loads((artifact / "evaluation.json").read_text())
    compared = after.pop("compare_splits")
    assert after == before
    assert set(compared) == {"author", "random", "leak"}


@pytest.mark.parametrize(
    ("settings", "flags", "kind", "message"),
    [
        ({"data.author_column": None}, ["--compare-splits"], InputError, r"data\.author_column is not set"),
        ({"model.base": "./nowhere"}, ["--compare-splits"], ArtifactError, "is not a directory: set model.base"),
        ({"model.path": "./nowhere"}, [], ArtifactError, "is not a directory"),
        ({"data.path": "./nowhere.csv"}, [], InputError, "can't be read"),
        ({"output.path": "s3://bucket/e.json"}, [], SettingsError, "an evaluation is written to a local disk"),
        ({"model.precision": "int3"}, [], SettingsError, r"model\.precision 'int3'"),
    ],
)
def test_what_can_not_be_evaluated_is_one_line(basics, tmp_path, settings, flags, kind, message) -> None:
    path, _ = unseen(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        run_here("evaluate", basics | {"data.path": str(path)} | settings, *flags)
    assert len(str(caught.value).splitlines()) == 1


def test_a_process_writes_its_result_and_ends_with_0(basics, tmp_path) -> None:
    path, _ = unseen(tmp_path)
    done = run_alone("evaluate", basics | {"data.path": str(path)}, directory=tmp_path)
    assert done.code == done.result["exit_code"] == 0, done.err
    assert done.err == ""
    assert f"verdict: {done.result['evaluation']['verdict']['summary']}" in done.out
