"""Groups of files: a file stays where it is, so that a change concerns one group and no other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bigfive_udf.tables.filesystem import FileInfo
from bigfive_udf.tables.groups import grouped
from bigfive_udf.tables.partitions import Layout, relative_path

SIZES = st.dictionaries(
    st.sampled_from([f"{a}/{b}" for a in "abc" for b in range(6)]), st.integers(0, 120), max_size=18
)


def files(sizes: dict[str, int]) -> list[FileInfo]:
    return [FileInfo(f"/corpus/{name}", size, 1.0) for name, size in sizes.items()]


def members(layout: Layout) -> dict[str, list[str]]:
    return {p.values[0] or "": [relative_path(f.path, "/corpus") for f in p.files] for p in layout.partitions}


@given(SIZES)
def test_every_file_is_in_one_group_and_groups_are_bounded(sizes):
    found = grouped(files(sizes), "/corpus", {}, max_bytes=100, max_files=4)
    assert sorted(n for group in members(found).values() for n in group) == sorted(sizes)
    for p in found.partitions:
        assert len(p.files) <= 4
        assert p.size <= 100 or len(p.files) == 1


@given(SIZES, st.randoms())
def test_the_order_of_a_listing_makes_no_difference(sizes, random):
    listed = files(sizes)
    shuffled = random.sample(listed, len(listed))
    assert grouped(listed, "/corpus", {}, 100, 4) == grouped(shuffled, "/corpus", {}, 100, 4)


@given(SIZES, SIZES)
def test_what_comes_and_goes_moves_no_other_file(before, after):
    first = members(grouped(files(before), "/corpus", {}, 100, 4))
    second = members(grouped(files(after), "/corpus", first, 100, 4))
    stayed = before.keys() & after.keys()
    owner = {name: group for group, names in second.items() for name in names}
    for group, names in first.items():
        for name in names:
            if name in stayed:
                assert owner[name] == group
    for name in after.keys() - before.keys():
        assert owner[name] not in first, "a new file makes no old group change"


def test_the_number_of_a_group_is_never_given_twice():
    known = {"group-000001": ("a/0",), "group-000007": ()}
    assert members(grouped(files({"a/0": 1, "b/0": 1}), "/corpus", known)) == {
        "group-000001": ["a/0"],
        "group-000008": ["b/0"],
    }


def test_a_group_without_files_is_no_longer_there():
    assert members(grouped(files({"b/0": 1}), "/corpus", {"group-000001": ("a/0",)})) == {"group-000002": ["b/0"]}


def test_files_that_came_together_are_together_whatever_their_names():
    days = {
        f"/corpus/{(7919 * i) % 1000:03d}": FileInfo(f"/corpus/{(7919 * i) % 1000:03d}", 1, float(i))
        for i in range(1000)
    }
    found = grouped(days.values(), "/corpus", {}, max_files=100)
    gone = {f.path for f in days.values() if f.modified < 250}
    assert sum(any(f.path in gone for f in p.files) for p in found.partitions) == 3
