"""The plan: what is new or changed and nothing else, and no mixture or surprise that nobody asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.errors import RefusedError
from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.fingerprint import ScoreRecipe, fingerprint, input_digest
from bigfive_udf.tables.ledger import COMMITTED, Entry
from bigfive_udf.tables.partitions import Partition
from bigfive_udf.tables.plan import FoundCorpus, Plan, Policies, make_plan

RECIPE = ScoreRecipe("model-a", {"model.precision": "fp32", "text.max_length": 128}, ("doc_id",), {"openness": 0.5})
OPEN = Policies("only_new", "only_new", 1.0)


def corpus(digests: Mapping[str, str], selected: set[str] | None = None, **more: Any) -> FoundCorpus:
    partitions = {name: (Partition((name,)), digest) for name, digest in digests.items()}
    return FoundCorpus(
        partitions, frozenset(digests if selected is None else selected), more.pop("gone", frozenset()), **more
    )


def entry(name: str, digest: str = "1", recipe: ScoreRecipe = RECIPE, documents: int = 10) -> Entry:
    return Entry(
        name,
        {"dt": name},
        COMMITTED,
        1,
        "commit",
        "run",
        "now",
        input=digest,
        model_id=recipe.model_id,
        settings=recipe.settings,
        columns=dict.fromkeys(recipe.columns, "string"),
        thresholds=recipe.thresholds,
        documents=documents,
    )


def table(*entries: Entry) -> dict[str, Entry]:
    return {e.partition: e for e in entries}


def scored(plan: Plan) -> dict[str, str]:
    return {task.name: task.why for task in plan.score}


def refusal(*arguments: Any, **more: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        make_plan(*arguments, **more)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


# --- what is to be done ---


def test_no_policy_leaves_two_pseudonymisations_in_one_table():
    by_key = replace(RECIPE, pseudonyms={"doc_id": "abcdef012345"})
    old = table(entry("a"), entry("b"))
    for policies in (OPEN, Policies(), replace(OPEN, on_schema_change="rescore", limit=1)):
        said = refusal(corpus({"a": "1", "b": "1"}), old, by_key, policies)
        assert "have no pseudonyms, the settings ask for doc_id by key abcdef012345" in said
    rescore = replace(OPEN, on_schema_change="rescore")
    assert scored(make_plan(corpus({"a": "1", "b": "1"}), old, by_key, rescore)) == dict.fromkeys("ab", "other columns")
    gone = corpus({"a": "1"}, gone=frozenset("b"))
    assert "with --prune" in refusal(gone, old, by_key, rescore)
    assert [e.partition for e in make_plan(gone, old, by_key, replace(rescore, prune=True)).remove] == ["b"]


def test_only_what_is_new_or_changed_is_scored():
    found = corpus({"a": "1", "b": "2", "c": "1"})
    plan = make_plan(found, table(entry("a"), entry("b", "1")), RECIPE, OPEN)
    assert scored(plan) == {"b": "input changed", "c": "new"}
    assert plan.up_to_date == ("a",)


def test_a_table_that_is_up_to_date_leaves_nothing_to_do():
    plan = make_plan(corpus({"a": "1"}), table(entry("a")), RECIPE, Policies())
    assert plan.empty


def test_other_thresholds_only_relabel():
    other = replace(RECIPE, thresholds={"openness": 0.7})
    plan = make_plan(corpus({"a": "1"}), table(entry("a")), other, Policies())
    assert scored(plan) == {}
    assert [(t.name, t.why) for t in plan.relabel] == [("a", "other thresholds")]


def test_a_damaged_partition_is_scored_again_without_being_asked():
    plan = make_plan(corpus({"a": "1"}), table(entry("a")), RECIPE, Policies(), frozenset({"a"}))
    assert scored(plan) == {"a": "damaged in the table"}


def test_what_is_gone_is_told_and_removed_only_where_that_is_asked_for():
    found = corpus({"a": "1"}, gone=frozenset({"b"}))
    entries = table(entry("a"), entry("b"), entry("c"))
    plan = make_plan(found, entries, RECIPE, Policies())
    assert (plan.gone, plan.remove) == (("b", "c"), ())
    plan = make_plan(found, entries, RECIPE, Policies(prune=True))
    assert (plan.gone, [e.partition for e in plan.remove]) == (("c",), ["b"])


def test_what_is_gone_gets_other_thresholds_too_for_its_labels_need_the_table_alone():
    other = replace(RECIPE, thresholds={"openness": 0.7})
    found = corpus({"a": "1"}, gone=frozenset("bcd"))
    old_settings = replace(RECIPE, settings={"model.precision": "fp32", "text.max_length": 64})
    entries = table(entry("a"), entry("b"), entry("c", recipe=MODEL_B), entry("d", recipe=old_settings))
    plan = make_plan(found, entries, other, Policies())
    assert [(t.name, t.input) for t in plan.relabel] == [("a", "1"), ("b", "1")]
    assert make_plan(found, entries, RECIPE, Policies()).relabel == ()
    pruned = make_plan(found, entries, other, Policies(prune=True))
    assert ([t.name for t in pruned.relabel], len(pruned.remove)) == (["a"], 3)
    narrowed = make_plan(corpus({"a": "1"}), entries, other, Policies())
    assert [t.name for t in narrowed.relabel] == ["a"], "the conditions of the command line hold for them too"


def test_labels_of_what_is_gone_are_not_computed_from_what_nobody_can_check():
    other = replace(RECIPE, thresholds={"openness": 0.7})

    def stored(name: str, precision: str, scored: int = 10) -> Entry:
        return replace(entry(name), precision=precision, scored=scored)

    entries = table(
        stored("a", "bf16"), stored("b", "fp32"), stored("c", "fp16"), stored("d", "fp16", 0), stored("e", "bf16")
    )
    gone, checked = corpus({"a": "1"}, gone=frozenset("bcde")), Policies(check_labels=True)
    plan = make_plan(gone, entries, other, checked)
    assert [t.name for t in plan.relabel] == ["a", "b", "d", "e"], "the texts of a tell of bf16"
    assert plan.kept == {"c": "labels by other thresholds, for which nobody can tell any more whether fp16 will do"}
    after = entries | {n: replace(entries[n], thresholds=other.thresholds) for n in "abde"}
    assert make_plan(gone, after, other, checked).empty, "and so it stays, without any work"
    assert [t.name for t in make_plan(gone, after, other, Policies()).relabel] == ["c"]


def test_what_is_gone_and_damaged_is_told():
    found, entries = corpus({"a": "1"}, gone=frozenset("b")), table(entry("a"), entry("b"))
    other = replace(RECIPE, thresholds={"openness": 0.7})
    plan = make_plan(found, entries, other, Policies(), frozenset("b"))
    assert (set(plan.unclear), [t.name for t in plan.relabel]) == ({"b"}, ["a"])
    assert "gone from the input" in plan.unclear["b"]
    assert make_plan(found, entries, RECIPE, Policies(prune=True), frozenset("b")).unclear == {}


@pytest.mark.parametrize(
    "unseen", [{"left": {"b": "outside of input.path"}}, {"unclear": {"b": "why"}}, {"waiting": frozenset("b")}]
)
def test_what_is_not_looked_at_counts_where_models_would_be_mixed(unseen):
    found, entries = corpus({"a": "1"}, **unseen), table(entry("a"), entry("b"))
    assert "1 partition of the table (10 of 20" in refusal(found, entries, MODEL_B, Policies(rescore=True))
    assert "columns doc_id" in refusal(found, entries, WIDER, Policies(rescore=True))


def test_what_is_out_of_sight_stays_as_it_is_whatever_was_asked_for():
    found = corpus({"a": "1"}, left={"b": "outside of input.path"}, unclear={"c": "look at it"})
    for policies in (Policies(), Policies(rescore=True), Policies(prune=True)):
        plan = make_plan(found, table(entry("a"), entry("b"), entry("c")), RECIPE, policies)
        assert (plan.kept, plan.unclear) == ({"b": "outside of input.path"}, {"c": "c: look at it"})
        assert (plan.gone, plan.remove) == ((), ())


def test_groups_between_which_files_may_have_moved_are_known():
    def group(name: str, files: int, digest: str = "1") -> Entry:
        return replace(entry(name, digest), group=tuple(f"{name}{i}" for i in range(files)))

    def of(name: str, files: int) -> Partition:
        return Partition((name,), tuple(FileInfo(f"/corpus/{name}{i}", 1, 1.0) for i in range(files)))

    entries = table(group("a", 2), group("b", 2), group("c", 2))
    digests = {"a": (of("a", 1), "2"), "b": (of("b", 2), "2"), "d": (of("d", 1), "1"), "e": (of("e", 1), "1")}
    found = FoundCorpus(digests, frozenset("abde"), frozenset("c"), in_groups=True)
    plan = make_plan(found, entries, RECIPE, OPEN)
    assert plan.together == frozenset("ade"), "b has all its files, so that none of them can have moved"
    assert [e.partition for e in plan.remove] == ["c"]
    assert [t.name for t in plan.score] == ["a", "d", "e", "b"], "first what has lost files"
    limited = make_plan(found, entries, RECIPE, replace(OPEN, limit=2))
    assert ([t.name for t in limited.score], limited.together, limited.later) == (["a", "d"], frozenset("ade"), 2)
    more = {name: digests[name] for name in "de"} | {name: (of(name, 2), "1") for name in "abc"}
    only_new = FoundCorpus(more, frozenset(more), frozenset(), in_groups=True)
    assert make_plan(only_new, entries, RECIPE, OPEN).together == frozenset()


def test_a_partition_that_waits_for_its_ready_file_is_not_gone():
    found = corpus({}, waiting=frozenset({"a"}))
    plan = make_plan(found, table(entry("a")), RECIPE, Policies(prune=True))
    assert plan.gone == ()
    assert plan.empty


def test_the_limit_counts_partitions_that_are_scored_and_says_what_is_left():
    found = corpus(dict.fromkeys("abcd", "1"))
    plan = make_plan(found, table(entry("a")), RECIPE, replace(OPEN, limit=2))
    assert scored(plan) == {"b": "new", "c": "new"}
    assert plan.later == 1


def test_rescore_takes_what_is_selected_and_nothing_else():
    found = corpus(dict.fromkeys("abc", "1"), selected={"a", "b"})
    plan = make_plan(found, table(entry("a"), entry("c")), RECIPE, Policies(rescore=True))
    assert scored(plan) == {"a": "asked for", "b": "new"}


# --- mixtures ---


MODEL_B = replace(RECIPE, model_id="model-b")
WIDER = replace(RECIPE, columns=("doc_id", "likes"))


@pytest.mark.parametrize(
    ("recipe", "key", "words"),
    [
        (MODEL_B, "on_model_change", ["model model-a", "model.path is model-b"]),
        (WIDER, "on_schema_change", ["columns doc_id", "the settings carry doc_id, likes"]),
    ],
)
def test_another_model_or_schema_is_refused_rescored_or_taken_for_new_ones_only(recipe, key, words):
    found, entries = corpus({"a": "1", "b": "1", "c": "1"}), table(entry("a"), entry("b"))
    message = refusal(found, entries, recipe, Policies())
    for word in ["2 partitions of the table (20 of 20 documents)", f"set {key} to rescore", "only_new", *words]:
        assert word in message
    plan = make_plan(found, entries, recipe, Policies(**{key: "rescore"}))
    assert set(scored(plan)) == {"a", "b", "c"}, "max_rescored_share does not stand in the way of what was asked for"
    plan = make_plan(found, entries, recipe, Policies(**{key: "only_new"}))
    assert scored(plan) == {"c": "new"}
    assert set(plan.kept) == {"a", "b"}


def test_nothing_new_and_another_model_is_refused_too():
    assert "on_model_change" in refusal(corpus({"a": "1"}), table(entry("a")), MODEL_B, Policies())


def test_rescoring_everything_mixes_nothing_but_rescoring_a_part_does():
    entries = table(entry("a"), entry("b"))
    plan = make_plan(corpus({"a": "1", "b": "1"}), entries, MODEL_B, Policies(rescore=True))
    assert set(scored(plan)) == {"a", "b"}
    found = corpus({"a": "1", "b": "1"}, selected={"a"})
    assert "1 partition of the table" in refusal(found, entries, MODEL_B, Policies(rescore=True))


def test_what_is_gone_from_the_input_can_not_be_scored_again_and_does_not_stand_in_the_way():
    plan = make_plan(corpus({"a": "2"}), table(entry("a"), entry("gone")), MODEL_B, Policies(rescore=True))
    assert set(scored(plan)) == {"a"}


def test_under_only_new_an_old_partition_whose_input_changed_gets_the_new_model():
    plan = make_plan(corpus({"a": "2"}), table(entry("a"), entry("b")), MODEL_B, OPEN)
    assert scored(plan) == {"a": "input changed"}


# --- surprises ---


def test_a_touched_corpus_is_refused_with_what_it_would_cost():
    entries = table(*(entry(n, documents=10) for n in "abcde"))
    found = corpus({"a": "2", "b": "2", "c": "1", "d": "1", "e": "1"})
    message = refusal(found, entries, RECIPE, Policies())
    assert message == (
        "20 of the table's 50 documents would be scored again (2 partitions: input changed), more than "
        "plan.max_rescored_share 0.2 allows: find out what touched them, or set it to 1 for this run if that is meant"
    )
    assert len(make_plan(found, entries, RECIPE, Policies(max_rescored_share=0.4)).score) == 2
    assert len(make_plan(found, entries, RECIPE, Policies(rescore=True)).score) == 5


def test_a_setting_that_changes_scores_is_named_when_it_is_refused():
    other = replace(RECIPE, settings=RECIPE.settings | {"text.max_length": 64})
    message = refusal(corpus({"a": "1"}), table(entry("a")), other, Policies())
    assert "1 partition: settings changed: text.max_length 128 -> 64" in message


def test_new_partitions_are_no_surprise_however_many():
    found = corpus({"a": "1"} | {f"n{i}": "1" for i in range(100)})
    assert len(make_plan(found, table(entry("a")), RECIPE, Policies(max_rescored_share=0)).score) == 100


def test_groups_whose_files_are_gone_are_taken_out_for_their_texts_may_be_in_new_ones():
    entries = table(*(entry(n, documents=10) for n in "abcd"))
    rewritten = corpus({"a": "1", "e": "1"}, in_groups=True)
    message = refusal(rewritten, entries, RECIPE, Policies())
    assert message.startswith("30 of the table's 40 documents would be taken out (3 partitions: its files")
    assert "max_rescored_share 0.2 allows: find out what touched them, or set it to 1 for this run" in message
    # That all is to be scored again does not say that anything is to be taken out.
    assert refusal(rewritten, entries, RECIPE, Policies(rescore=True)).startswith(
        "30 of the table's 40 documents would be taken out (3 partitions: its files"
    )
    for allowed in (Policies(prune=True), Policies(max_rescored_share=1.0), Policies(rescore=True, prune=True)):
        plan = make_plan(rewritten, entries, RECIPE, allowed)
        assert ({e.partition for e in plan.remove}, plan.gone) == ({"b", "c", "d"}, ())
        assert "e" in scored(plan)
    kept = make_plan(replace(rewritten, in_groups=False), entries, RECIPE, Policies())
    assert (kept.remove, kept.gone) == ((), ("b", "c", "d"))
    one_gone = corpus({"e": "1"} | dict.fromkeys("abcdghij", "1"), in_groups=True)
    more = table(*(entry(n, documents=10) for n in "abcdghijk"))
    plan = make_plan(one_gone, more, RECIPE, Policies())
    assert ({e.partition for e in plan.remove}, set(scored(plan))) == ({"k"}, {"e"})
    changed_too = corpus({"e": "1", "a": "2"} | dict.fromkeys("bcdghij", "1"), in_groups=True)
    assert "(1 partition: input changed, 1 partition: its files are gone)" in refusal(
        changed_too, more, RECIPE, Policies()
    )


# --- any night ---

NAMES = st.sampled_from("abcdef")
DIGESTS = st.dictionaries(NAMES, st.sampled_from("12"))
RECIPES = st.builds(
    ScoreRecipe,
    st.sampled_from(["model-a", "model-b"]),
    st.fixed_dictionaries({"p": st.sampled_from([1, 2])}),
    st.sampled_from([("doc_id",), ("doc_id", "likes")]),
    st.fixed_dictionaries({"openness": st.sampled_from([0.5, 0.7])}),
)
POLICIES = st.sampled_from(["refuse", "rescore", "only_new"])


@given(
    st.data(),
    DIGESTS,
    RECIPES,
    st.builds(Policies, POLICIES, POLICIES, st.sampled_from([0.0, 0.2, 1.0]), st.booleans(), st.booleans()),
)
def test_whatever_the_night_brings(data, digests, recipe, policies):
    names = data.draw(st.sets(NAMES))
    entries = table(*(entry(n, data.draw(st.sampled_from("12")), data.draw(RECIPES)) for n in sorted(names)))
    selected = data.draw(st.sets(st.sampled_from(sorted(digests)))) if digests else set()
    gone = entries.keys() - digests.keys()
    found = corpus(digests, selected, gone=frozenset(gone))
    try:
        plan = make_plan(found, entries, recipe, policies)
    except RefusedError:
        # Nothing is refused that would leave all as it is, with everything of one kind.
        same = all(
            e.model_id == recipe.model_id and tuple(e.columns) == recipe.columns and e.input == digests.get(n, e.input)
            and dict(e.settings) == dict(recipe.settings)
            for n, e in entries.items()
        )  # fmt: skip
        assert not same
        return
    score, relabel = {t.name for t in plan.score}, {t.name for t in plan.relabel}
    remove, current = {e.partition for e in plan.remove}, set(plan.up_to_date)
    parts = [score, relabel, remove, current, set(plan.kept)]
    assert sum(map(len, parts)) == len(set().union(*parts)), "each partition has one fate"
    assert score | relabel - gone | current | set(plan.kept) == selected, "and every selected one has it"
    for e in (entries[name] for name in relabel):
        assert (e.model_id, dict(e.settings), tuple(e.columns)) == (
            recipe.model_id, dict(recipe.settings), recipe.columns
        ), "labels are computed again of what is as the settings say in all other ways"  # fmt: skip
        assert dict(e.thresholds) != dict(recipe.thresholds)
    assert remove | set(plan.gone) == gone
    for name in selected:
        e = entries.get(name)
        whole = e is not None and e.input == digests[name]
        assert whole or name in score, "what is new or changed is always scored"
        if name in current:
            assert (e.model_id, dict(e.settings), dict(e.thresholds)) == (
                recipe.model_id, dict(recipe.settings), dict(recipe.thresholds)
            )  # fmt: skip
    if policies.on_model_change == "refuse":
        after = {recipe.model_id} if score else set()
        after |= {entries[n].model_id for n in digests if n in entries and n not in score}
        assert len(after) <= 1, "no mixture unasked"
    again = sum(entries[t.name].documents for t in plan.score if t.why in ("input changed", "settings changed"))
    assert policies.rescore or again <= policies.max_rescored_share * sum(e.documents for e in entries.values())


# --- fingerprints ---

FILE = FileInfo("/corpus/dt=1/a.parquet", 10, 5.0)


def test_a_digest_knows_path_size_and_time_of_every_file_in_any_order():
    other = FileInfo("/corpus/dt=1/b.parquet", 10, 5.0)
    base = input_digest(Partition(("1",), (FILE, other)), "/corpus")
    assert input_digest(Partition(("1",), (other, FILE)), "/corpus") == base
    for changed in (
        (FILE,),
        (replace(FILE, size=11), other),
        (replace(FILE, modified=5.5), other),
        (replace(FILE, path="/corpus/dt=1/c.parquet"), other),
        (replace(FILE, etag="x"), other),
    ):
        assert input_digest(Partition(("1",), changed), "/corpus") != base


def test_a_corpus_that_moved_as_a_whole_is_the_same():
    moved = replace(FILE, path="s3a://bucket/texts/dt=1/a.parquet")
    assert input_digest(Partition(("1",), (FILE,)), "/corpus") == input_digest(
        Partition(("1",), (moved,)), "s3a://bucket/texts/"
    )


def test_where_there_is_an_etag_the_time_does_not_count():
    one, other = replace(FILE, etag="x"), replace(FILE, etag="x", modified=99.0)
    assert input_digest(Partition(("1",), (one,)), "/") == input_digest(Partition(("1",), (other,)), "/")


def test_the_fingerprint_knows_input_model_and_settings_and_nothing_else():
    base = fingerprint("1", RECIPE)
    assert fingerprint("2", RECIPE) != base
    assert fingerprint("1", MODEL_B) != base
    assert fingerprint("1", replace(RECIPE, settings={"model.precision": "bf16"})) != base
    assert fingerprint("1", replace(RECIPE, thresholds={}, columns=("x",))) == base
