"""The train job: an artifact whose figures are true, or nothing; a kill costs time and changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bigfive_udf.errors import (
    ArtifactError,
    BigFiveError,
    InputError,
    OutputError,
    SettingsError,
    TableLockedError,
)
from bigfive_udf.model.artifact import Artifact, load_artifact
from bigfive_udf.reporting.reference import read_reference
from bigfive_udf.training.data import digest_of
from bigfive_udf.traits import TRAITS, probability_column
from support.cluster import clean_environment
from support.jobs_here import command_of, run_alone, run_here, start_prepared
from support.labelled import WORDS, planted

PROBABILITIES = [probability_column(trait) for trait in TRAITS]


@pytest.fixture(scope="session")
def base(checkpoint: Callable[..., Path]) -> Path:
    """A tiny encoder whose tokenizer knows the words of `planted`."""
    return checkpoint("bert", known=tuple(WORDS))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path)


def write_table(folder: Path) -> Path:
    """400 short texts by 40 authors."""
    path = folder / "labelled.csv"
    planted(authors=40, texts=10, words=4).to_csv(path, index=False)
    return path


@pytest.fixture
def basics(tmp_path: Path, base: Path, table: Path) -> dict[str, Any]:
    return settings_of(tmp_path, base, table)


def settings_of(folder: Path, base: Path, table: Path) -> dict[str, Any]:
    """Settings for a training of a few seconds, which learns little of the planted words."""
    return {
        "data.path": str(table),
        "data.author_column": "author",
        "split.folds": 2,
        "model.base": str(base),
        "model.pooling": "mean",
        "model.max_length": 64,
        "train.epochs": 2,
        "train.learning_rate": 5e-3,
        "train.head_rate_factor": 2.0,
        "train.batch_size": 16,
        "train.precision": "fp32",
        "train.device": "cpu",
        "evaluation.resamples": 200,
        "output.path": str(folder / "models" / "mine"),
    }


LEARNING = {"train.epochs": 5, "split.folds": 3}


@dataclass(frozen=True)
class Made:
    """A run of the job in this process, what it left and what it printed."""

    folder: Path
    settings: dict[str, Any]
    table: Path
    artifact: Artifact
    result: dict[str, Any]
    printed: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Made:
    """Of the basic settings, with all that a card can show beside. Read-only."""
    folder = tmp_path_factory.mktemp("made")
    table = write_table(folder)
    (folder / "notes.md").write_text("## Where the texts are from\n\nMade up for a test.\n")
    about = {"output.notes": str(folder / "notes.md"), "output.license": "cc0-1.0", "model.languages": ["en"]}
    settings = settings_of(folder, base, table) | LEARNING | about
    with redirect_stdout(StringIO()) as printed:
        run = run_here("train", settings)
    return Made(folder, settings, table, load_artifact(settings["output.path"]), run.result, printed.getvalue())


def scores(artifact: str | Path, texts: list[str]) -> np.ndarray:
    frame = load_artifact(artifact).predict(texts, device="cpu", precision="fp32")
    return frame[PROBABILITIES].to_numpy(float, na_value=np.nan)


# --- the artifact ---


def test_folds_give_an_artifact_on_all_rows_with_out_of_fold_figures(made) -> None:
    artifact = made.artifact
    assert {p.name for p in artifact.path.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "bigfive.json"),
        *("evaluation.json", "training.json", "split.parquet", "reference.json"),
        *("README.md", "roc.png", "calibration.png", "training.png"),
    }
    about, evaluation = artifact.description, artifact.evaluation
    assert (about["head"], about["pooling"], about["max_length"]) == ("linear", "mean", 64)
    assert evaluation == made.result["evaluation"]
    assert (evaluation["split"], evaluation["folds"], evaluation["model_id"]) == ("author", 3, artifact.model_id)
    assert evaluation["rows"] == {"train": 400, "out_of_fold": 400}
    assert evaluation["authors"] == {"train": 40, "out_of_fold": 40}
    assert evaluation["macro"]["roc_auc"] > 0.65
    # Drift can be judged against the rows that the figures come from.
    reference = read_reference(artifact.path)
    assert reference is not None and reference.total.sum(-1).tolist() == [400] * 5
    assert "reference.json" in about["files"]
    # It knows the rows that it was trained on better than it says of itself.
    frame = pd.read_csv(made.table)
    known = scores(artifact.path, frame["text"].tolist())
    flattering = np.mean([roc_auc_score(frame[trait], known[:, i]) for i, trait in enumerate(TRAITS)])
    assert flattering > evaluation["macro"]["roc_auc"]
    assert all(0 < artifact.thresholds[trait] < 1 for trait in TRAITS)
    assert "fold 3 of 3" in made.printed
    assert f"verdict: {evaluation['verdict']['summary']}" in made.printed


def test_no_author_is_on_two_sides_and_the_split_is_told_by_digests(made) -> None:
    split = pd.read_parquet(made.artifact.path / "split.parquet")
    frame = pd.read_csv(made.table)
    assert split["text"].tolist() == [digest_of(text) for text in frame["text"]]
    assert split["author"].tolist() == [digest_of(author) for author in frame["author"]]
    assert set(split["part"]) == {"fold 0", "fold 1", "fold 2"}
    assert (split.groupby("author", observed=True)["part"].nunique() == 1).all()


def test_one_split_is_reported_on_its_test_part(basics, table) -> None:
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    run_here("train", basics | {"split.folds": 0, "split.fractions": fractions})
    artifact = load_artifact(basics["output.path"])
    split = pd.read_parquet(artifact.path / "split.parquet")
    frame = pd.read_csv(table)
    test = frame[(split["part"] == "test").to_numpy()]
    said = scores(artifact.path, test["text"].tolist())
    evaluation = artifact.evaluation
    assert evaluation["rows"]["test"] == len(test) and sum(evaluation["rows"].values()) == 400
    for i, trait in enumerate(TRAITS):
        measured = evaluation["traits"][trait]
        assert measured["roc_auc"] == pytest.approx(roc_auc_score(test[trait], said[:, i]), abs=1e-4)
        right = (said[:, i] >= artifact.thresholds[trait]) == test[trait]
        assert measured["accuracy"] == pytest.approx(right.mean(), abs=1e-4)


def test_a_table_of_its_own_can_be_the_test_part(basics, tmp_path) -> None:
    other = planted(authors=12, texts=6, words=4, seed=1)
    other["author"] = "other-" + other["author"]
    other.to_parquet(tmp_path / "test.parquet")
    run_here("train", basics | LEARNING | {"data.test_path": str(tmp_path / "test.parquet")})
    evaluation = load_artifact(basics["output.path"]).evaluation
    said = scores(basics["output.path"], other["text"].tolist())
    expected = np.mean([roc_auc_score(other[trait], said[:, i]) for i, trait in enumerate(TRAITS)])
    assert evaluation["macro"]["roc_auc"] == pytest.approx(expected, abs=1e-4)
    assert evaluation["rows"] == {"train": 400, "out_of_fold": 400, "test": 72}
    assert evaluation["out_of_fold"]["macro"]["roc_auc"] > 0.6


@pytest.mark.parametrize("folds", [2, 0])
def test_a_text_that_another_author_has_too_is_in_no_figure(basics, table, folds) -> None:
    frame = pd.read_csv(table)
    rng = np.random.default_rng(0)
    copied = frame.iloc[::4].assign(author=lambda rows: rng.permutation(rows["author"].to_numpy()))
    frame = pd.concat([frame, copied], ignore_index=True)
    frame.to_csv(table, index=False)
    fractions = {"train": 0.5, "validation": 0.2, "test": 0.3}
    run_here("train", basics | {"split.folds": folds, "split.fractions": fractions})
    artifact = load_artifact(basics["output.path"])
    split = pd.read_parquet(artifact.path / "split.parquet").astype({"part": str})
    held, part = ("test", "test") if folds == 0 else ("fold 0|fold 1", "out_of_fold")
    everywhere = split.groupby("text")["part"].nunique()
    shared = split["part"].str.fullmatch(held) & (everywhere[split["text"]].to_numpy() > 1)
    evaluation = artifact.evaluation
    assert shared.sum() > 10
    assert evaluation["shared_texts"] == shared.sum()
    assert evaluation["rows"][part] == (split["part"].str.fullmatch(held) & ~shared).sum()
    positives = frame.loc[(split["part"].str.fullmatch(held) & ~shared).to_numpy(), list(TRAITS)].sum()
    assert {t: evaluation["traits"][t]["positives"] for t in TRAITS} == positives.to_dict()
    assert f"({shared.sum():,} more are left out: another author has the same text among what was trained on)" in (
        artifact.path / "README.md"
    ).read_text().replace("\n", " ")


def test_early_stopping_by_authors_of_one_kind_is_refused_before_the_training(basics, table) -> None:
    frame = pd.read_csv(table)
    first = frame["author"].unique()[:12]
    some = frame[frame["author"].isin(first)]
    alike = some.assign(**{trait: (some["author"].isin(first[::2])).astype(int) for trait in TRAITS})
    alike.to_csv(table, index=False)
    few = {"train.early_stopping": 1, "split.fractions": {"train": 0.88, "validation": 0.02, "test": 0.1}}
    with pytest.raises(
        InputError, match=r"fold 1: no trait has labels of both kinds in the \d+ texts that train\.early"
    ):
        run_here("train", basics | few)


def test_a_trait_without_labels_is_null_in_every_score(basics, table) -> None:
    frame = pd.read_csv(table).drop(columns="openness")
    frame.to_csv(table, index=False)
    run_here("train", basics | {"train.epochs": 1})
    artifact = load_artifact(basics["output.path"])
    predicted = artifact.predict(["party and poetry", "", "alone"])
    assert predicted["prob_openness"].isna().all() and predicted["label_openness"].isna().all()
    assert predicted["status"].tolist() == ["scored", "empty", "scored"]
    assert predicted["prob_extraversion"].notna().tolist() == [True, False, True]
    assert artifact.evaluation["traits"]["openness"]["roc_auc"] is None
    assert artifact.evaluation["verdict"]["traits"]["openness"]["verdict"] == "not known"


def test_scores_are_cut_by_the_median_of_the_training_authors_and_correlated(basics, table) -> None:
    frame = pd.read_csv(table)
    rng = np.random.default_rng(0)
    own = dict(zip(frame["author"].unique(), rng.random(40), strict=True))
    frame["agreeableness"] = 2 + frame["agreeableness"] + frame["author"].map(own)
    frame.to_csv(table, index=False)
    run_here("train", basics | LEARNING | {"data.cut": {"agreeableness": "median"}})
    artifact = load_artifact(basics["output.path"])
    cuts = json.loads((artifact.path / "training.json").read_text())["cuts"]
    assert cuts == {"agreeableness": pytest.approx(frame.groupby("author")["agreeableness"].first().median())}
    by_author = artifact.evaluation["author_level"]["traits"]
    assert by_author["agreeableness"]["pearson_r"] > 0.3
    assert "pearson_r" not in by_author["neuroticism"]


def test_seeds_early_stopping_and_the_other_settings_reach_the_training(basics) -> None:
    changed = {
        "model.head": "mlp",
        "model.pooling": "cls",
        "train.epochs": 4,
        "train.seeds": 2,
        "train.early_stopping": 1,
        "train.positive_weights": "balanced",
        "train.gradient_accumulation": 2,
        "train.frozen_layers": 0,
        "train.trainer": {"max_grad_norm": 0.5},
        "labels.thresholds": "fixed",
        "split.fractions": {"train": 0.6, "validation": 0.3, "test": 0.1},
    }
    run_here("train", basics | changed)
    artifact = load_artifact(basics["output.path"])
    assert artifact.description["head"] == "mlp"
    assert set(artifact.thresholds.values()) == {0.5}
    assert set(artifact.evaluation["seeds"]["macro_roc_auc"]) == {"0", "1"}
    curves = json.loads((artifact.path / "training.json").read_text())["epochs"]
    assert len(curves) == 2 * 2 + 1
    assert all(epoch["validation_roc_auc"] is not None for epochs in curves[:-1] for epoch in epochs)


def test_the_card_shows_what_was_measured(made) -> None:
    artifact = made.artifact
    card = (artifact.path / "README.md").read_text()
    evaluation = artifact.evaluation
    assert card.startswith("---\n") and "license: cc0-1.0" in card and "- en" in card
    assert f"**Verdict: {evaluation['verdict']['summary']}.**" in card
    for trait in TRAITS:
        measured = evaluation["traits"][trait]
        low, high = measured["roc_auc_ci"]
        assert f"{measured['roc_auc']:.3f} ({low:.3f} to {high:.3f})" in card
        assert f"{measured['majority_accuracy']:.3f} |" in card
    assert "Made up for a test." in card and "docs/responsible-use.md" in card
    for picture in ("roc.png", "calibration.png", "training.png"):
        assert f"]({picture})" in card
        assert (artifact.path / picture).read_bytes().startswith(b"\x89PNG")
    assert str(made.folder) not in card and str(made.folder) not in (artifact.path / "training.json").read_text()
    assert made.settings["model.base"] not in "".join(p.read_text() for p in artifact.path.glob("*.json"))


# --- calibration ---


def test_calibration_error_on_the_test_part_falls_on_an_overconfident_model(basics, table) -> None:
    frame = planted(authors=80, texts=8, words=6, telling=1)
    rng = np.random.default_rng(0)
    noise = rng.random((len(frame), 5)) < 0.3  # labels that are wrong as often as that, and learned by heart
    frame[list(TRAITS)] = np.where(noise, 1 - frame[list(TRAITS)], frame[list(TRAITS)])
    frame.to_csv(table, index=False)
    errors = {}
    for calibrate in (True, False):
        output = f"{basics['output.path']}-{calibrate}"
        changed = {"split.folds": 0, "train.epochs": 16, "labels.calibrate": calibrate, "output.path": output}
        changed |= {"split.fractions": {"train": 0.5, "validation": 0.25, "test": 0.25}}
        run_here("train", basics | changed)
        errors[calibrate] = load_artifact(output).evaluation["macro"]["ece"]
    assert errors[False] > 0.1, "it is overconfident"
    assert errors[True] < errors[False] / 2


# --- interrupted ---


def work_of(basics: dict[str, Any]) -> Path:
    return Path(f"{basics['output.path']}.job") / "work"


def killed_when(ready: Callable[[], bool], settings: dict[str, Any], directory: Path) -> None:
    """Start the job, and SIGKILL it as soon as `ready` says so."""
    process = start_prepared("train", settings, directory)
    try:
        deadline = time.monotonic() + 200
        while not ready():
            assert process.is_alive(), "the job ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.0005)
    finally:
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL


def half_written(work: Path) -> bool:
    """Whether a checkpoint is being written right now."""
    return any(not (c / "bigfive_complete.json").exists() for c in work.glob("*/checkpoint-*"))


def test_killed_between_folds_in_an_epoch_and_in_a_save_it_ends_with_the_same_scores(
    basics, tmp_path, checkpoint, capsys
) -> None:
    # Large enough for a checkpoint to take a moment.
    large = checkpoint("bert", known=(*WORDS, *(f"filler{i}" for i in range(60000))))
    settings = basics | {"model.base": str(large)}
    run_here("train", settings | {"output.path": str(tmp_path / "models" / "whole")})
    capsys.readouterr()

    work = work_of(settings)
    killed_when(lambda: any(work.glob("fold-0-*/checkpoint-*/bigfive_complete.json")), settings, tmp_path)
    killed_when(lambda: half_written(work), settings, tmp_path)
    assert half_written(work), "the kill left a checkpoint half-written"
    killed_when(lambda: (work / "fold-0-seed-0.npz").exists(), settings, tmp_path)
    killed_when(lambda: any(work.glob("final/checkpoint-*")), settings, tmp_path)
    killed_when(lambda: any(work.glob(".mine-*/model.safetensors")), settings, tmp_path)
    assert not Path(settings["output.path"]).exists()
    run_here("train", settings)
    printed = capsys.readouterr().out
    assert "an interrupted training is here: going on with it" in printed
    assert printed.count("done before the interruption") == 2

    texts = pd.read_csv(settings["data.path"])["text"].tolist()
    expected = scores(tmp_path / "models" / "whole", texts)
    np.testing.assert_allclose(scores(settings["output.path"], texts), expected, atol=1e-4)
    evaluations = [load_artifact(p).evaluation for p in (tmp_path / "models" / "whole", settings["output.path"])]
    for trait in TRAITS:
        first, second = (e["traits"][trait]["roc_auc"] for e in evaluations)
        assert first == pytest.approx(second, abs=1e-3)
    left = Path(f"{settings['output.path']}.job")
    assert not (left / "work").exists(), "nothing is kept of the work when it is done"
    assert {p.name for p in left.parent.iterdir()} == {"mine", "mine.job", "whole", "whole.job"}


def test_work_of_other_labels_or_settings_is_not_gone_on_with(basics, tmp_path, capsys) -> None:
    work = work_of(basics)
    killed_when(lambda: (work / "fold-0-seed-0.npz").exists(), basics | {"data.cut": 1.0}, tmp_path)
    run_here("train", basics | {"data.cut": 0.5, "train.epochs": 1})
    printed = capsys.readouterr().out
    assert "an interrupted training is here, of another data or cut and settings: starting anew" in printed
    assert "done before the interruption" not in printed


def test_two_trainings_of_one_artifact_are_kept_apart_and_one_that_is_terminated_leaves_none(basics, tmp_path) -> None:
    work, result = work_of(basics), tmp_path / "result.json"
    first = subprocess.Popen(
        command_of("train", basics, "--result", str(result)), cwd=tmp_path, env=clean_environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 100
        while not any(work.glob("fold-0-*/checkpoint-*")):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(TableLockedError, match=rf"is being trained by run \S+, process {first.pid} on"):
            run_here("train", basics)
        first.terminate()
        _, err = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 143
    assert err.splitlines() == ["error: terminated; nothing is half-written, run it again"]
    assert json.loads(result.read_text())["exit_code"] == 143
    assert not Path(basics["output.path"]).exists()
    run_here("train", basics | {"train.epochs": 1})  # the lock died with its holder


def test_a_full_disk_is_one_line_and_the_training_goes_on_from_there(basics, tmp_path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *command_of("train", basics)],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "the training can't write" in done.stderr and "free space" in done.stderr
    assert not Path(basics["output.path"]).exists()


def test_a_base_that_was_trained_on_the_table_is_refused(basics, tmp_path) -> None:
    run_here("train", basics | {"split.folds": 2, "train.epochs": 1})
    again = basics | {"model.base": basics["output.path"], "output.path": str(tmp_path / "again")}
    with pytest.raises(InputError, match=r"was trained on 400 of the texts and 40 of the authors"):
        run_here("train", again)
    other = planted(authors=20, texts=6, words=4, seed=5)
    other["author"] = "new-" + other["author"]
    other.to_csv(tmp_path / "other.csv", index=False)
    run_here("train", again | {"data.path": str(tmp_path / "other.csv"), "split.folds": 2, "train.epochs": 1})
    grandchild = load_artifact(tmp_path / "again")
    assert grandchild.evaluation["rows"]["train"] == 120
    # What its base has seen it has seen too, whoever asks, and so will what is made of it.
    split = pd.read_parquet(grandchild.path / "split.parquet")
    assert split["part"].value_counts()["base"] == 400
    with pytest.raises(InputError, match=r"the model was trained on all 400 texts"):
        about = {"data.path": basics["data.path"], "data.author_column": "author", "model.path": str(grandchild.path)}
        run_here("evaluate", about)
    with pytest.raises(InputError, match=r"was trained on 400 of the texts and 40 of the authors"):
        run_here("train", basics | {"model.base": str(grandchild.path), "output.path": str(tmp_path / "third")})


def test_a_trait_that_the_base_knew_nothing_of_may_be_learned(basics, tmp_path, table) -> None:
    stock = {"model.pooling": "cls", "split.folds": 2, "train.epochs": 1}
    frame = pd.read_csv(table)
    frame.drop(columns="openness").to_csv(table, index=False)
    run_here("train", basics | stock)
    other = planted(authors=20, texts=6, words=4, seed=5)
    other["author"] = "new-" + other["author"]
    other.to_csv(tmp_path / "other.csv", index=False)
    more = {"data.path": str(tmp_path / "other.csv"), "output.path": str(tmp_path / "again")}
    run_here("train", basics | stock | more | {"model.base": basics["output.path"]})
    assert load_artifact(tmp_path / "again").predict(["poetry"])["prob_openness"].notna().all()


# --- bad input ---


def test_an_artifact_that_exists_is_never_touched(basics) -> None:
    Path(basics["output.path"]).mkdir(parents=True)
    with pytest.raises(OutputError, match="exists, and a model is never overwritten"):
        run_here("train", basics)
    assert list(Path(basics["output.path"]).iterdir()) == []


def three_values(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(openness=np.arange(len(frame)) % 3)


def one_class_in_a_part(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(openness=(frame["author"] != frame["author"].iloc[0]).astype(int))


def authors_missing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(author=frame["author"].where(frame.index > 2))


def numbers_for_texts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(text=np.arange(len(frame)))


@pytest.mark.parametrize(
    ("change", "settings", "kind", "message"),
    [
        (three_values, {}, InputError, r"'openness' \(openness\) has 3 values"),
        (one_class_in_a_part, {}, InputError, r"openness: all \d+ labels are positive in"),
        (authors_missing, {}, InputError, "3 of 400 rows have no author in column 'author'"),
        (numbers_for_texts, {}, InputError, "'text' holds nothing but numbers"),
        (None, {"split.folds": 41}, InputError, "40 authors or texts can't be split into 41 parts"),
        (None, {"output.path": "s3://bucket/m"}, OutputError, "a model is written to a local disk"),
        (None, {"data.cut": {"openness": "mean"}}, SettingsError, r"data\.cut: 'mean'; it must be a number or median"),
        (None, {"train.learning_rate": 1e9}, SettingsError, r"train\.learning_rate 1e\+09: .* set a lower one"),
        (None, {"train.trainer": {"optim": "sgd"}}, SettingsError, "the optimizer is AdamW"),
        (None, {"train.trainer": {"max_grad_norm": "abc"}}, SettingsError, r"train\.trainer .*abc"),
        (None, {"train.device": "cuda"}, SettingsError, r"train\.device cuda: .* has no usable GPU"),
        (None, {"model.base": "./nowhere"}, ArtifactError, "is not a directory: set model.base"),
        (None, {"train.trainer": {"lerning_rate": 1}}, SettingsError, "lerning_rate"),
        (None, {"train.frozen_layers": 9}, SettingsError, "the encoder has 2 layers"),
        (None, {"output.notes": "nowhere.md"}, SettingsError, r"output\.notes .*nowhere\.md can't be read"),
        (
            None,
            {"split.folds": 0, "split.fractions": {"train": 0.8, "validation": 0.2, "test": 0.0}},
            InputError,
            "no figure could be reported",
        ),
    ],
)
def test_what_can_not_be_trained_on_is_one_line_and_leaves_no_artifact(
    basics, table, change, settings, kind: type[BigFiveError], message
) -> None:
    if change is not None:
        change(pd.read_csv(table)).to_csv(table, index=False)
    with pytest.raises(kind, match=message) as caught:
        run_here("train", basics | settings)
    assert len(str(caught.value).splitlines()) == 1
    output = Path(basics["output.path"])
    assert not output.exists()
    assert not list(output.parent.glob(".mine*")), "nothing half-written beside it"


def test_a_test_part_that_was_trained_on_is_refused(basics, table, tmp_path) -> None:
    pd.read_csv(table).iloc[:20].to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(InputError, match=r"20 texts of data\.test_path .* are in data\.path too"):
        run_here("train", basics | {"data.test_path": str(tmp_path / "test.csv")})


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"data.encoding": "utf-8"}, 3, "is not UTF-8 (line 12 has the byte 0xe9)"),
        ({"model.base": "distilbert-base-uncased", "data.encoding": "latin-1"}, 4, "`hf download distilbert-base-"),
        ({"train.epochs": 0}, 2, "train.epochs 0"),
    ],
)
def test_a_process_ends_with_one_line_and_the_right_code(basics, table, tmp_path, settings, code, message) -> None:
    table.write_bytes(table.read_text().replace("the", "th\xe9").encode("latin-1"))
    started = time.monotonic()
    done = run_alone(
        "train", basics | settings, directory=tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hf")
    )
    assert time.monotonic() - started < 60, "said at once"
    assert done.code == done.result["exit_code"] == code
    assert message in done.error
    assert len(done.err.splitlines()) == 1
    assert not Path(basics["output.path"]).exists()


def test_an_output_that_can_not_be_written_is_told_before_the_training(basics) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        run_here("train", basics | {"output.path": "/proc/nowhere/m"})
