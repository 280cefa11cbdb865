"""The weights of a bundle are those that were given, however they lie in memory."""

from __future__ import annotations

import torch
from safetensors.torch import load, load_file, save_file

from bigfive_udf.model.bundle import _serialized


def test_tensors_that_share_memory_are_written_each_by_itself(tmp_path):
    table = torch.arange(60.0).reshape(10, 6)
    save_file({"a": torch.ones(3, 4), "b": torch.zeros(5)}, tmp_path / "mapped")
    given = {
        "whole": table,
        "tied": table,
        "upper": table[:5],
        "lower": table[5:],
        "turned": table.T,
        "every other": table[::2],
        "alone": torch.full((3,), 7.0),
        "empty": torch.empty(0, 6),
        "scalar": torch.tensor(2.0),
        **load_file(tmp_path / "mapped"),
    }
    found = load(_serialized(given))
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor), name


def test_what_is_written_does_not_depend_on_how_it_lay_in_memory():
    table = torch.arange(60.0).reshape(10, 6)
    apart = {"a": table[:5].clone(), "b": table[5:].clone()}
    assert _serialized({"a": table[:5], "b": table[5:]}) == _serialized(apart)
