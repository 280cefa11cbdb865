"""The package as others meet it: what importing it costs and does, what it exports, what its errors are called."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import bigfive_udf
from bigfive_udf import errors
from bigfive_udf.errors import BigFiveError

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "bigfive_udf"


def modules(*folders: str) -> list[str]:
    """Dotted names of the package's modules, of those folders or of all."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
        if not folders or (len(parts) > 2 and parts[1] in folders):
            found.append(".".join(parts).removesuffix(".__init__"))
    return found


def fresh(program: str, *arguments: str) -> object:
    """What a program prints as JSON in an interpreter of its own, with no more environment than it needs."""
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


IMPORT_AND_TELL = """
import importlib, json, sys
for name in sys.argv[2].split(","):
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.argv[1].split(",")) & set(sys.modules))))
"""


def test_importing_the_package_loads_neither_torch_nor_pyspark_nor_anything_else_that_is_slow():
    slow = "torch,pyspark,transformers,pandas,numpy,pyarrow,pydantic,tokenizers,huggingface_hub"
    assert fresh(IMPORT_AND_TELL, slow, "bigfive_udf") == []
    assert fresh(IMPORT_AND_TELL, slow, "bigfive_udf,json,yaml,pydantic") == ["pydantic"], "or the check sees nothing"


def test_batching_loads_neither_torch_nor_pyspark():
    assert fresh(IMPORT_AND_TELL, "torch,pyspark,pandas", "bigfive_udf.model.batching") == []


def test_finding_out_what_is_wrong_with_settings_or_a_corpus_needs_no_torch():
    light = [*modules("settings"), "bigfive_udf.command_line", *modules("tables")]
    assert fresh(IMPORT_AND_TELL, "torch,pyspark,transformers", ",".join(light)) == []


def test_the_model_side_imports_and_scores_where_pyspark_is_not_installed(checkpoint):
    program = """
import importlib, json, sys
sys.modules["pyspark"] = sys.modules["py4j"] = None  # every import of them fails
for name in sys.argv[2].split(","):
    importlib.import_module(name)
import bigfive_udf
frame = bigfive_udf.load_artifact(sys.argv[1]).predict(["I like people", None])
print(json.dumps([frame.status.tolist(), len(frame.columns)]))
"""
    names = modules("model")
    assert "bigfive_udf.model.scorer" in names
    assert fresh(program, str(checkpoint()), ",".join(names)) == [["scored", "empty"], 17]


def test_a_spark_worker_imports_and_scores_without_transformers(checkpoint, tmp_path):
    packed = bigfive_udf.load_artifact(checkpoint()).pack("fp32")
    for name, content in packed.files.items():
        (tmp_path / name).write_bytes(content)
    program = """
import json, pathlib, sys
sys.modules["transformers"] = sys.modules["huggingface_hub"] = None
import bigfive_udf.spark.workers.worker
from bigfive_udf.model.scorer import Scorer
from bigfive_udf.model.scores import ScoringOptions
scores = Scorer.open(pathlib.Path(sys.argv[1]), ScoringOptions(max_length=128)).score(["I like people"])
print(json.dumps(scores.status.tolist()))
"""
    assert fresh(program, str(tmp_path)) == ["scored"]


def test_importing_every_module_changes_nothing_in_the_process(tmp_path):
    # What numpy or torch do when they are imported is theirs: they come first.
    program = """
import contextlib, importlib, json, logging, os, sys, tempfile, threading, warnings
ours, theirs, directory = sys.argv[1].split(","), sys.argv[2].split(","), sys.argv[3]
for name in theirs:
    module, _, attribute = name.rpartition(".")
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
    with contextlib.suppress(AttributeError, KeyError):
        getattr(sys.modules[module], attribute)  # transformers loads a class when it is asked for it
import pyspark, torch
tempfile.tempdir = directory
os.chdir(directory)

def state():
    return {
        "environment": dict(os.environ),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": [t.name for t in threading.enumerate()],
        "torch": [torch.is_grad_enabled(), torch.get_num_threads(), torch.get_num_interop_threads(),
                  torch.get_float32_matmul_precision(), str(torch.get_default_dtype()),
                  torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.enabled],
        "spark": str(pyspark.SparkContext._active_spark_context),
        "files": os.listdir(directory),
        "logging": [str(logging.root.handlers), logging.root.level, logging.getLogger("py4j").level],
        "warnings": str(warnings.filters),
        "path": sys.path,
        "hooks": [str(sys.excepthook), str(threading.excepthook)],
        "directory": os.getcwd(),
    }

before = state()
for name in ours:
    importlib.import_module(name)
print(json.dumps([before, state()]))
"""
    theirs = {name for file in PACKAGE.rglob("*.py") for name in imports(file, nested=False)}
    outside = sorted(name for name in theirs if name.split(".")[0] not in ("bigfive_udf", "__future__"))
    before, after = fresh(program, ",".join(modules()), ",".join(outside), str(tmp_path))  # type: ignore[misc]
    assert before["threads"] >= 1
    assert after == before


def imports(file: Path, nested: bool = True) -> set[str]:
    """Every module that a file names in an import statement, at its top and, if `nested`, inside functions."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_spark_package_imports_pyspark():
    importing = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if {name.split(".")[0] for name in imports(file)} & {"pyspark", "py4j"}
    }
    assert "spark/workers/worker.py" in importing, "or the check sees nothing"
    assert {file for file in importing if not file.startswith("spark/")} == set()


@pytest.mark.parametrize("file", sorted((PACKAGE / "model").glob("*.py")), ids=lambda f: f.name)
def test_the_model_side_knows_nothing_of_spark_tables_or_settings(file):
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("bigfive_udf.")}
    assert ours <= {"errors", "model", "redaction", "traits", "__version__"}


def test_what_may_be_told_of_an_error_depends_on_nothing_else():
    assert not any(name.startswith("bigfive_udf") for name in imports(PACKAGE / "redaction.py"))


def test_the_documented_interface_is_exported_and_nothing_else():
    assert set(bigfive_udf.__all__) == {"__version__", "load_artifact", "score_dataframe", "score_udf"}
    documented = set(re.findall(r"bigfive_udf\.(\w+)\(", bigfive_udf.__doc__ or ""))
    assert documented == set(bigfive_udf.__all__) - {"__version__"}


@pytest.mark.parametrize("name", bigfive_udf.__all__)
def test_every_exported_name_is_there_listed_and_documented(name):
    namespace: dict[str, object] = {}
    exec(f"from bigfive_udf import {name}", namespace)
    assert namespace[name] is getattr(bigfive_udf, name)
    assert name in dir(bigfive_udf)
    if name != "__version__":
        home = importlib.import_module(getattr(bigfive_udf, name).__module__)
        assert getattr(home, name) is getattr(bigfive_udf, name)
        assert inspect.getdoc(getattr(bigfive_udf, name))


def test_a_star_import_gives_what_all_promises():
    namespace: dict[str, object] = {}
    exec("from bigfive_udf import *", namespace)
    assert set(bigfive_udf.__all__) <= set(namespace)


def test_a_name_that_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'bigfive_udf' has no attribute 'predict'"):
        _ = bigfive_udf.predict
    assert not hasattr(bigfive_udf, "predict")


def test_the_version_is_that_of_the_installed_package():
    assert bigfive_udf.__version__ == metadata.version("bigfive-udf")


# --- errors ---

TREE = {
    name: int(code)
    for name, code in re.findall(r"^ +[├└]── (\w+) +(\d+) +\S.*$", inspect.getdoc(errors) or "", re.MULTILINE)
}
CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}


def test_the_docstring_draws_every_exception_with_its_exit_code():
    assert {name: kind.exit_code for name, kind in CLASSES.items() if kind is not BigFiveError} == TREE
    assert all(kind.__bases__ == (BigFiveError,) for name, kind in CLASSES.items() if name in TREE)
    assert BigFiveError.__bases__ == (Exception,)


def test_every_exit_code_of_the_contract_has_one_exception():
    assert sorted(code for code in TREE.values() if code < 128) == [2, 3, 4, 5, 6, 7, 8]
    assert max(TREE.values()) == 128 + signal.SIGTERM, "ended from without"
    assert BigFiveError.exit_code == 1


@pytest.mark.parametrize("name", TREE)
def test_every_exception_says_what_it_stands_for(name):
    assert CLASSES[name].__doc__


def test_exceptions_survive_the_way_between_processes():
    import pickle

    for kind in CLASSES.values():
        copy = pickle.loads(pickle.dumps(kind("a message: with its cure")))
        assert (type(copy), str(copy), copy.exit_code) == (kind, "a message: with its cure", kind.exit_code)
