"""Partition directories: named as Spark names them, read back to the letter, chosen as the command line says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.errors import InputError, SettingsError
from bigfive_udf.tables.filesystem import FileInfo, LocalFileSystem
from bigfive_udf.tables.partitions import (
    HIVE_NULL,
    Layout,
    Partition,
    Selection,
    is_hidden,
    layout_of,
    partition_name,
    partition_values,
    select,
)

# What a directory name can hold. An empty value has no directory of its own, Spark writes it as null; and a column
# whose name begins with a dot is one that Spark does not see.
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=12)
COLUMNS = NAMES.filter(lambda c: not c.startswith("."))
VALUES = st.none() | NAMES.filter(lambda v: v != HIVE_NULL)


def at(root: str, *relative: str) -> list[FileInfo]:
    return [FileInfo(f"{root}/{name}", size=10 + i, modified=float(i)) for i, name in enumerate(relative)]


def days(*names: str | None) -> Layout:
    return Layout(("dt",), tuple(Partition((name,)) for name in names))


def chosen(layout: Layout, **selection: object) -> list[tuple[str | None, ...]]:
    return [p.values for p in select(layout, Selection(**selection))]  # type: ignore[arg-type]


# --- names, with Spark as the judge ---


@pytest.fixture(scope="module")
def written_by_spark(spark, tmp_path_factory) -> tuple[Path, list[str]]:
    """A table that Spark has partitioned by awkward strings: every ASCII character, and some that are not."""
    values = ["".join(map(chr, range(start, min(start + 8, 128)))) for start in range(1, 128, 8)]
    values += [
        "",
        HIVE_NULL + "x",
        "100%",
        "%41",
        "%zz",
        "%",
        " lead",
        "trail ",
        "dt=1",
        "naïve",
        "東京",
        "😀",
        "\u0080\u2028",
    ]
    directory = tmp_path_factory.mktemp("spark") / "table"
    rows = [(i, value) for i, value in enumerate([*values, None])]
    frame = spark.createDataFrame(rows, "id int, `a b%c` string").coalesce(1)
    frame.write.partitionBy("a b%c").parquet(str(directory))
    return directory, values


def test_partitions_are_named_as_spark_names_them(written_by_spark):
    directory, values = written_by_spark
    expected = {name for name in os.listdir(directory) if "=" in name}
    assert {partition_name(("a b%c",), (value,)) for value in [*values, None]} == expected


def test_partitions_that_spark_wrote_are_read_to_the_letter(written_by_spark):
    directory, values = written_by_spark
    layout = layout_of(str(directory), LocalFileSystem().files(str(directory)))
    assert layout.columns == ("a b%c",)
    assert {p.values[0] for p in layout.partitions} == {*values, None} - {""}, "Spark writes an empty string as null"


def test_spark_reads_a_partition_of_our_name_as_the_value_it_was_made_from(spark, written_by_spark, tmp_path):
    directory, values = written_by_spark
    source = next(directory.glob("*/*.parquet"))
    values = [v for v in values if v]
    for value in values:
        target = tmp_path / partition_name(("key",), (value,))
        target.mkdir()
        (target / source.name).write_bytes(source.read_bytes())
    rows = spark.read.parquet(str(tmp_path)).select("key").distinct().collect()
    assert {row.key for row in rows} == set(values)


def test_the_files_of_the_layout_are_those_that_spark_reads(spark, written_by_spark, tmp_path):
    source = next(written_by_spark[0].glob("*/*.parquet")).read_bytes()
    names = {
        "a": [
            *("dt=1/a.parquet", "dt=1/b", "dt=1/sub/c.parquet", "dt=1/_x=1.parquet"),
            *("dt=1/_SUCCESS", "dt=1/.a.parquet.crc", "dt=1/.x=1.parquet", "dt=1/c.parquet._COPYING_"),
            *("dt=1/_temporary/0/a.parquet", "_staging/dt=1/a.parquet", ".hidden/dt=1/a.parquet", ".dt=2/a.parquet"),
        ],
        "b": ["_dt=1/a.parquet"],
    }
    for root, inside in names.items():
        for name in inside:
            file = tmp_path / root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(source)
    by_spark = {
        root: {uri.split(f"{tmp_path}/{root}/")[1] for uri in spark.read.parquet(f"{tmp_path}/{root}").inputFiles()}
        for root in names
    }
    assert by_spark["a"] >= {"dt=1/a.parquet", "dt=1/_x=1.parquet"}, "or Spark was asked the wrong way"
    assert {root: {n for n in inside if not is_hidden(n)} for root, inside in names.items()} == by_spark


@given(st.dictionaries(COLUMNS, VALUES, min_size=1, max_size=4))
def test_a_name_is_read_back_as_the_columns_and_values_it_was_made_from(pairs):
    columns, values = tuple(pairs), tuple(pairs.values())
    name = partition_name(columns, values)
    (file,) = at("/corpus", f"{name}/part-0.parquet")
    assert name.count("/") == len(columns) - 1
    assert layout_of("/corpus", [file]) == Layout(columns, (Partition(values, (file,)),))
    assert layout_of("s3a://bucket/corpus", at("s3a://bucket/corpus", f"{name}/x")).partitions[0].values == values


@given(st.dictionaries(COLUMNS, VALUES, min_size=1, max_size=4))
def test_a_name_tells_the_values_that_it_was_made_from(pairs):
    columns, values = zip(*pairs.items(), strict=True)
    assert partition_values(partition_name(columns, values)) == values


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=8, unique=True))
def test_two_partitions_never_have_one_name(found):
    assert len({partition_name(("a", "b"), values) for values in found}) == len(found)


def test_without_partition_columns_the_name_is_that_of_the_group():
    assert partition_name((), ("group-000001",)) == "group-000001"


def test_an_empty_value_has_the_directory_of_null_as_in_spark():
    assert partition_name(("dt",), ("",)) == f"dt={HIVE_NULL}"


def test_a_name_with_too_few_values_is_a_defect():
    with pytest.raises(ValueError, match="shorter"):
        partition_name(("dt", "country"), ("2026-11-22",))


# --- layout ---


@given(
    st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(["nl", "be", None])), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_every_file_is_in_the_partition_of_its_directory_whatever_the_order_of_the_listing(found, random):
    columns = ("day", "country")
    files = at("/c", *(f"{partition_name(columns, values)}/{i}.parquet" for i, values in enumerate(found)))
    expected = {values: {f for f, v in zip(files, found, strict=True) if v == values} for values in found}
    random.shuffle(files)
    layout = layout_of("/c", files)
    assert {p.values: set(p.files) for p in layout.partitions} == expected
    assert len(layout.partitions) == len(expected)
    assert sum(p.size for p in layout.partitions) == sum(f.size for f in files)
    in_order = [p.values for p in layout.partitions]
    assert in_order == sorted(in_order, key=lambda values: [(v is None, str(v)) for v in values]), "null comes last"


def test_files_that_lie_in_no_partition_directory_are_one_partition():
    files = at("/c", "a.parquet", "b/c.parquet")
    assert layout_of("/c", files) == Layout((), (Partition((), tuple(files)),))


def test_partition_directories_in_two_directories_are_refused():
    """Spark ends with CONFLICTING_DIRECTORY_STRUCTURES where it is to read them together."""
    message = r"/c/us/dt=2/b and /c/eu/dt=1/a are partitioned in two directories, us and eu, .*column=value"
    with pytest.raises(InputError, match=message):
        layout_of("/c", at("/c", "eu/dt=1/a", "us/dt=2/b"))
    with pytest.raises(InputError, match="dt=2/x and dt=1/x"):
        layout_of("/c", at("/c", "dt=1/x/hour=1/a", "dt=2/x/hour=1/a"))
    assert layout_of("/c", at("/c", "all/dt=1/x/a", "all/dt=1/y/b", "all/dt=2/c")).columns == ("dt",)


def test_no_files_make_an_empty_layout():
    assert layout_of("/c", at("/c", "_SUCCESS", ".crc")) == Layout((), ())


def test_a_trailing_slash_of_the_root_changes_nothing():
    for root in ("/c", "s3a://b/c"):
        files = at(root, "dt=1/a")
        assert layout_of(f"{root}/", files) == layout_of(root, files)


def test_partition_directories_above_the_root_do_not_count():
    assert layout_of("/lake/dt=1/c", at("/lake/dt=1/c", "country=nl/a")).columns == ("country",)


def test_values_are_kept_to_the_letter():
    files = at("/c", "dt=0042/a", "dt=42/a", "dt=2026-11/a", "dt=1.0/a", f"dt={HIVE_NULL}/a", "dt=a%3Ab/a", "dt=x=y/a")
    assert [p.values[0] for p in layout_of("/c", files).partitions] == [
        "0042",
        "1.0",
        "2026-11",
        "42",
        "a:b",
        "x=y",
        None,
    ]


@pytest.mark.parametrize(
    ("names", "odd", "first", "has", "instead_of"),
    [
        (["dt=1/a", "b"], "b", "dt=1/a", "nothing", "dt"),
        (["a", "dt=1/b"], "dt=1/b", "a", "dt", "nothing"),
        (["dt=1/a", "day=2/b"], "day=2/b", "dt=1/a", "day", "dt"),
        (["dt=1/country=nl/a", "dt=1/b"], "dt=1/b", "dt=1/country=nl/a", "dt", "dt, country"),
        (
            ["dt=1/country=nl/a", "country=nl/dt=1/b"],
            "country=nl/dt=1/b",
            "dt=1/country=nl/a",
            "country, dt",
            "dt, country",
        ),
    ],
)
def test_files_in_other_partition_directories_than_the_rest_are_named(names, odd, first, has, instead_of):
    with pytest.raises(InputError) as refused:
        layout_of("/c", at("/c", *names))
    assert str(refused.value) == (
        f"/c/{odd} is partitioned by {has}, /c/{first} by {instead_of}: give input.path a corpus of one layout"
    )


# --- selection ---

WEEK = days(*(f"2026-11-2{i}" for i in range(7)))
TWO_LEVELS = Layout(("dt", "country"), tuple(Partition((d, c)) for d in ("1", "2", "3") for c in ("be", "nl", None)))


def test_without_conditions_every_partition_is_chosen():
    assert select(WEEK, Selection()) == WEEK.partitions


def test_since_and_until_are_inclusive():
    assert chosen(WEEK, since="dt=2026-11-22", until="dt=2026-11-24") == [
        ("2026-11-22",),
        ("2026-11-23",),
        ("2026-11-24",),
    ]
    assert chosen(WEEK, since="dt=2026-11-26") == [("2026-11-26",)]
    assert chosen(WEEK, since="dt=2026-12") == []


@given(
    since=st.none() | st.integers(-2, 9).map(str),
    until=st.none() | st.integers(-2, 9).map(str),
    present=st.lists(st.integers(0, 9).map(str), unique=True, max_size=8),
)
def test_conditions_hold_together(since, until, present):
    layout = days(*sorted(present))
    flags = {"since": since and f"dt={since}", "until": until and f"dt={until}"}
    expected = [d for d in sorted(present) if (since is None or d >= since) and (until is None or d <= until)]
    assert chosen(layout, **flags) == [(d,) for d in expected]


def test_a_numeric_column_of_a_table_is_ordered_by_number():
    layout = days("9", "10", "-1", "100")
    numeric = frozenset({"dt"})
    assert chosen(layout, since="dt=9.5", until="dt=100", numeric_columns=numeric) == [("10",), ("100",)]
    assert chosen(layout, since="dt=9") == [("9",)], "as text"


def test_a_bound_that_is_no_number_is_refused_for_a_numeric_column():
    with pytest.raises(SettingsError, match=r"--since dt=monday: .*number"):
        chosen(days("1", "2"), since="dt=monday", numeric_columns=frozenset({"dt"}))


def test_a_bound_on_one_of_two_columns_is_judged_by_that_column():
    assert chosen(TWO_LEVELS, since="country=nl") == [("1", "nl"), ("2", "nl"), ("3", "nl")]
    assert chosen(TWO_LEVELS, until="dt=1") == [("1", "be"), ("1", "nl"), ("1", None)]


def test_null_lies_in_no_range_as_in_sql():
    layout = days("2026-11-22", "2026-11-23", None)
    assert chosen(layout, since="dt=2026-11-22") == [("2026-11-22",), ("2026-11-23",)]
    assert chosen(layout, until="dt=2026-11-22") == [("2026-11-22",)]


@pytest.mark.parametrize("flag", ["since", "until"])
def test_null_is_no_bound(flag):
    with pytest.raises(SettingsError, match=f"--{flag} dt={HIVE_NULL}: "):
        chosen(days("1", None), **{flag: f"dt={HIVE_NULL}"})


def test_named_partitions_add_up_in_the_order_of_the_corpus_each_once():
    named = ("dt=2026-11-24", "dt=2026-11-21", "dt=2026-11-24/")
    assert chosen(WEEK, partitions=named) == [("2026-11-21",), ("2026-11-24",)]


def test_a_partition_may_be_named_by_some_of_its_columns():
    assert chosen(TWO_LEVELS, partitions=("dt=2",)) == [("2", "be"), ("2", "nl"), ("2", None)]
    assert chosen(TWO_LEVELS, partitions=("country=nl/dt=3",)) == [("3", "nl")]
    assert chosen(TWO_LEVELS, partitions=(f"country={HIVE_NULL}",)) == [("1", None), ("2", None), ("3", None)]


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=6, unique=True), st.data())
def test_a_partition_is_found_by_the_name_of_its_directory(found, data):
    layout = Layout(("a", "b"), tuple(Partition(values) for values in found))
    wanted = data.draw(st.sampled_from(found))
    assert chosen(layout, partitions=(partition_name(layout.columns, wanted),)) == [wanted]


def test_a_named_partition_that_is_not_there_is_told_with_what_is():
    with pytest.raises(InputError) as refused:
        chosen(WEEK, partitions=("dt=2026-11-22", "dt=2026-11-30"))
    assert str(refused.value) == (
        "--partition dt=2026-11-30 is not in the input, which has dt=2026-11-20 to dt=2026-11-26; "
        "correct it or load it first"
    )
    with pytest.raises(InputError, match=r"which has dt=1; correct"):
        chosen(days("1"), partitions=("dt=2",))
    with pytest.raises(InputError, match="which has no partitions; correct"):
        chosen(days(), partitions=("dt=2",))


@pytest.mark.parametrize("text", ["2026-11-22", "day=2026-11-22", "=2026-11-22", "", "dt=1/lang=nl", "DT=2026-11-22"])
@pytest.mark.parametrize("flag", ["--partition", "--since", "--until"])
def test_a_flag_that_names_no_partition_column_is_told_with_those_there_are(flag, text):
    selection = {"partitions": (text,)} if flag == "--partition" else {flag.strip("-"): text}
    with pytest.raises(SettingsError) as refused:
        chosen(WEEK, **selection)
    assert str(refused.value) == f"{flag} {text}: write it as column=value; the partition columns are dt"


def test_a_flag_for_a_corpus_without_partitions_says_so():
    with pytest.raises(SettingsError, match=r"--since dt=1: .*the corpus has no partition columns"):
        chosen(Layout((), (Partition(()),)), since="dt=1")


def test_a_bound_has_one_column():
    with pytest.raises(SettingsError, match=r"--until dt=1/country=nl: give one column, such as dt=\.\.\."):
        chosen(TWO_LEVELS, until="dt=1/country=nl")
