"""The report of a table: every figure on the page is DuckDB's, of the files; and a real browser shows it well."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bigfive_udf.errors import ArtifactError, InputError, SettingsError
from bigfive_udf.reporting.bins import EDGES
from bigfive_udf.reporting.reference import held_out_reference
from bigfive_udf.traits import TRAITS, label_column, probability_column
from support.browser import CHROMIUM, Tab, browser
from support.corpora import corrupt, write_corpus
from support.jobs_here import run_here, run_recorded

HOSTILE = "<script>alert(1)</script>$x$"
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
LENGTHS = (0, 1, 8, 16, 32, 64, 128, 256, 512, 1024)
# The first four days, the third of which fails, against the last two, of which one has a name that nobody expects.
REFERENCE, CURRENT = ("2026-01-05", "2026-01-06", "2026-01-08"), ("2026-01-09", HOSTILE)
EVALUATION = {
    "split": "author",
    "rows": {"test": 240},
    "authors": {"test": 24},
    "traits": {
        trait: {
            "roc_auc": 0.61 + i / 100,
            "roc_auc_ci": [0.45 + i / 50, 0.7],
            "ece": 0.031,
            "accuracy": 0.58,
            "majority_accuracy": 0.55,
            "positives": 120.0,
            "better_than_chance": i > 2,
        }
        for i, trait in enumerate(TRAITS)
    },
}


@pytest.fixture(scope="module")
def night(spark: Any, checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of a run over six days, one of which can't be read: exit code 5, and five days in the table."""
    folder = tmp_path_factory.mktemp("report")
    corpus = write_corpus(folder / "corpus", days=6, rows=60)
    corrupt(corpus / "dt=2026-01-07" / "part-0.parquet")
    (corpus / "dt=2026-01-10").rename(corpus / f"dt={HOSTILE.replace('/', '%2F')}")
    first = corpus / "dt=2026-01-05" / "part-0.parquet"
    table = pq.read_table(first)
    texts = [None, "  ", *table["text"].to_pylist()[2:]]
    authors = [None, *table["author"].to_pylist()[1:]]
    made = pa.table({"doc_id": table["doc_id"], "author": pa.array(authors), "text": pa.array(texts)})
    pq.write_table(made, first)
    model = shutil.copytree(checkpoint(), folder / "model")
    (model / "evaluation.json").write_text(json.dumps(EVALUATION))
    settings = {
        "input.path": str(corpus),
        "input.author_column": "author",
        "output.path": str(folder / "scores"),
        "model.path": str(model),
        "model.precision": "fp32",
        "text.max_windows": 1,
        "text.max_length": 12,
    }
    assert run_recorded("score", settings) == 5
    return settings


def reported(night: dict[str, Any], name: str = "report", **settings: Any) -> tuple[str, dict[str, Any]]:
    """The page and its JSON."""
    folder = Path(night["output.path"]).parent
    given = {"table.path": night["output.path"], "output.path": str(folder / f"{name}.html")}
    given |= {key.replace("__", "."): value for key, value in settings.items()}
    run_here("report", given)
    return (folder / f"{name}.html").read_text(), json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def report(night: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return reported(night, reference__until="dt=2026-01-08", cost__per_core_hour=0.05)


class Figures(HTMLParser):
    """The page's numbers by the place that they name, and the words that are outside of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[tuple[str, str]]] = {}
        self.words: list[str] = []
        self._at: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):  # which have no end
            self._at.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._at and self._at.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._at]
        if tags and tags[-1] == "data":
            about = self._at[-1][1]
            self.found.setdefault(str(about["data-figure"]), []).append((str(about["value"]), data))
        elif not {"svg", "style", "title"} & set(tags):
            self.words.append(data)


@pytest.fixture(scope="module")
def duck(night: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """The table's rows as `s`, with numbers for the partitions in the order of the page; records and ledger."""
    connection = duckdb.connect()
    path = night["output.path"]
    options = "hive_partitioning=true, hive_types_autocast=false"
    connection.execute(
        "CREATE VIEW s AS SELECT *, dense_rank() OVER (ORDER BY dt) - 1 AS part "
        f"FROM read_parquet('{path}/**/*.parquet', {options})"
    )
    connection.execute(f"CREATE VIEW runs AS SELECT * FROM read_json('{path}.job/runs/*.json') ORDER BY run_id")
    connection.execute(f"""CREATE VIEW ledger AS SELECT *, row_number() OVER (ORDER BY "partition") - 1 AS part
        FROM read_json('{path}.job/ledger/*.jsonl')""")
    return connection


class Quantile:
    """A probability below which that share of these lies; told from counts in bins, so to within a hundredth."""

    def __init__(self, values: list[float | None], share: float) -> None:
        self.values = np.array([v for v in values if v is not None])
        self.share = share

    def __eq__(self, found: object) -> bool:
        assert isinstance(found, float)
        least, most = ((self.values < found + off).mean() for off in (-0.01, 0.01))
        return bool(least <= self.share <= most)


def expected(duck: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Every number that a page may have, by its place, asked of DuckDB."""
    found: dict[str, Any] = {}

    def rows(sql: str) -> list[dict[str, Any]]:
        answer = duck.execute(sql)
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    texts = """count(*) AS documents, count_if(status = 'scored') AS scored, count_if(status = 'empty') AS empty,
        count_if(status = 'failed') AS failed, count_if(truncated) AS truncated, sum(n_tokens) AS tokens,
        max(n_tokens) AS longest, sum(n_tokens) / count_if(status = 'scored') AS tokens_per_text"""
    for trait in TRAITS:
        p, label = f"{probability_column(trait)}::DOUBLE", label_column(trait)
        score = f"""count({p}) AS scores, avg({p}) AS mean, list({p} ORDER BY {p}) AS sorted,
            count_if({label}) / count({label}) AS label_share"""
        for row in rows(f"SELECT part, {score} FROM s GROUP BY part"):
            place = f"partitions.{row.pop('part')}.traits.{trait}."
            found |= {place + f"quantiles.{i}": Quantile(row["sorted"], q) for i, q in enumerate(QUANTILES)}
            del row["sorted"]
            found |= {place + key: value for key, value in row.items()}
        sides = {"bins": f"dt IN {CURRENT}", "reference_bins": f"dt IN {REFERENCE}"}
        for name, condition in sides.items():
            binned = f"SELECT least(floor({p} * 20), 19)::INT AS b, count(*) AS n FROM s WHERE {p} IS NOT NULL"
            counts = {row["b"]: row["n"] for row in rows(f"{binned} AND {condition} GROUP BY b")}
            found |= {f"traits.{trait}.{name}.{b}": counts.get(b, 0) for b in range(20)}
        # The shares below each edge, of the reference, of the other side and of each partition.
        below = ", ".join(f"count_if({p} < {edge!r}) / count({p})" for edge in EDGES.tolist())
        by_part = {r[0]: np.array(r[1:]) for r in duck.execute(f"SELECT part, {below} FROM s GROUP BY part").fetchall()}
        of = [np.array(duck.execute(f"SELECT {below} FROM s WHERE dt IN {d}").fetchone()) for d in (REFERENCE, CURRENT)]
        found[f"drift.traits.{trait}.distance"] = np.abs(of[0] - of[1]).max()
        for part, shares in by_part.items():
            found[f"partitions.{part}.traits.{trait}.distance"] = np.abs(shares - of[0]).max()
        for name, days in (("reference", REFERENCE), ("current", CURRENT)):
            of_side = duck.execute(
                f"SELECT list({p} ORDER BY {p}) FROM s WHERE dt IN {days} AND {p} IS NOT NULL"
            ).fetchone()
            found[f"drift.traits.{trait}.median_{name}"] = Quantile(of_side[0], 0.5)
        figures = ("roc_auc", "ece", "accuracy", "majority_accuracy")
        found |= {f"model.traits.{trait}.{key}": EVALUATION["traits"][trait][key] for key in figures}
        found |= {
            f"model.traits.{trait}.roc_auc_ci.{i}": x for i, x in enumerate(EVALUATION["traits"][trait]["roc_auc_ci"])
        }
    for row in rows(f"SELECT part, {texts} FROM s GROUP BY part"):
        place = f"partitions.{row.pop('part')}."
        found |= {place + key: value for key, value in row.items()}
    found |= {f"texts.{key}": value for key, value in rows(f"SELECT {texts} FROM s")[0].items()}
    for i, (low, high) in enumerate(zip(LENGTHS, (*LENGTHS[1:], 1 << 30), strict=True)):
        found[f"lengths.{i}.texts"] = rows(f"SELECT count_if(n_tokens >= {low} AND n_tokens < {high}) AS n FROM s")[0][
            "n"
        ]
    reasons = "SELECT count(*) AS n FROM s WHERE status <> 'scored' GROUP BY status, status_reason ORDER BY ALL DESC"
    found |= {f"reasons.{i}.texts": row["n"] for i, row in enumerate(rows(reasons))}
    for row in rows("SELECT part, seconds, documents FROM ledger"):
        found[f"partitions.{row['part']}.seconds"] = row["seconds"]
        found[f"partitions.{row['part']}.documents_per_second"] = row["documents"] / row["seconds"]
    for i, row in enumerate(rows("SELECT seconds, documents, n_tokens FROM ledger ORDER BY seconds DESC LIMIT 5")):
        found |= {f"slowest.{i}.seconds": row["seconds"], f"slowest.{i}.documents": row["documents"]}
        found[f"slowest.{i}.tokens"] = row["n_tokens"]
    total = {"seconds": 0.0, "core_hours": 0.0, "documents": 0}
    for i, row in enumerate(rows("SELECT * FROM runs")):
        place = f"runs.{i}."
        found |= {place + key: row[key] for key in ("exit_code", "seconds", "scoring_seconds", "documents_per_second")}
        found |= {place + "documents": row["documents_out"], place + "cores": row["spark"]["cores"]}
        found[place + "other_seconds"] = row["seconds"] - row["scoring_seconds"]
        found |= {place + f"worker_seconds.{name}": value for name, value in row["worker_seconds"].items()}
        total["seconds"] += row["seconds"]
        total["core_hours"] += row["seconds"] * row["spark"]["cores"] / 3600
        total["documents"] += row["documents_out"]
    money = total["core_hours"] * 0.05
    found |= {f"cost.{key}": value for key, value in total.items()} | {"cost.runs": 1, "cost.per_core_hour": 0.05}
    found |= {"cost.money": money, "cost.money_per_million": money / total["documents"] * 1e6}
    found["cost.documents_per_core_hour"] = total["documents"] / total["core_hours"]
    scored = [rows(f"SELECT count(prob_openness) AS n FROM s WHERE dt IN {d}")[0]["n"] for d in (REFERENCE, CURRENT)]
    found |= {"drift.reference_texts": scored[0], "drift.current_texts": scored[1]}
    found |= {
        "model.texts": 240,
        "model.authors": 24,
        "stretch.partitions": rows("SELECT count(DISTINCT dt) AS n FROM s")[0]["n"],
    }
    found |= {"drift.limits.distance": 0.05, "drift.limits.large_distance": 0.2, "drift.limits.large_psi": 0.25}
    return found | {"drift.limits.false_alarms": 0.01}


# What is drawn at random, and a formula over the reference's own tenths: tests/reporting/test_drift.py has these.
ELSEWHERE = re.compile(r"drift\.traits\.\w+\.(ordinary|psi)")


def test_every_number_on_the_page_is_duckdbs(
    report: tuple[str, dict[str, Any]], duck: duckdb.DuckDBPyConnection
) -> None:
    page, figures = report
    oracle, shown = expected(duck), Figures(page).found
    assert len(shown) > 500
    for place, values in shown.items():
        for value, text in values:
            number = None if value == "" else float(value)
            if ELSEWHERE.fullmatch(place):
                _, _, trait, key = place.split(".")
                assert number == pytest.approx(figures["drift"]["traits"][trait][key], rel=1e-9)
            else:
                exact = oracle[place]
                known = exact if isinstance(exact, Quantile) else pytest.approx(exact, abs=1e-9, rel=1e-9)
                assert known == number, place
            assert readable(text) in (None, pytest.approx(number, abs=half_of_last_digit(text))), place


def test_no_number_stands_on_the_page_without_its_place(report: tuple[str, dict[str, Any]]) -> None:
    page, figures = report
    words = " ".join(Figures(page).words)
    names = [p["partition"] for p in figures["partitions"]] + [f["partition"] for f in figures["failures"]]
    names += [r["run_id"] for r in figures["runs"]] + [f["reason"] for f in figures["failures"]]
    names += [m for r in figures["runs"] if (m := r["message"])] + [figures["stretch"]["model_id"], figures["version"]]
    for name in sorted(names, key=len, reverse=True):
        words = words.replace(name, "")
    words = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|0\.\d\d|fp32|95 %", "", words)  # times; edges of the first table
    left = set(re.findall(r"\d+", words)) - {str(low) for low in LENGTHS}
    assert left == set()


def readable(text: str) -> float | None:
    """The number that a person reads; None of a duration in words."""
    plain = text.replace(",", "")
    if plain.endswith(" %"):
        return None if plain.startswith("<") else float(plain[:-2]) / 100
    return float(plain) if re.fullmatch(r"-?[\d.]+", plain) else None


def half_of_last_digit(text: str) -> float:
    plain = text.replace(",", "").removesuffix(" %")
    digits = len(plain.partition(".")[2])
    size = 0.5 * 10**-digits
    if "." not in plain and plain.isdigit() and len(plain) < 4 and not text.endswith("%"):
        return 0.5  # a rate without decimals
    return 1.0001 * size / (100 if text.endswith("%") else 1)


def test_the_first_screen_says_what_ran_what_failed_and_what_the_model_is_worth(
    report: tuple[str, dict[str, Any]],
) -> None:
    page, figures = report
    said = " ".join(" ".join(Figures(page).words).split())
    assert "Yes: dt=2026-01-07" in said
    assert "No better than chance for extraversion, neuroticism, agreeableness" in said
    assert figures["drift"]["kind"] == "table"
    assert figures["drift"]["current"] == ["dt=2026-01-09", figures["partitions"][-1]["partition"]]
    assert figures["drift"]["reference"] == [f"dt={day}" for day in REFERENCE]
    (failure,) = figures["failures"]
    assert failure["mended_by"] is None
    assert "part-0.parquet" in failure["reason"]


def test_nothing_that_a_corpus_calls_its_partitions_becomes_markup(report: tuple[str, dict[str, Any]]) -> None:
    page, _ = report
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;%2Fscript&gt;$x$" in page


def test_the_page_is_one_small_file_that_asks_the_network_for_nothing_and_holds_no_text(
    report: tuple[str, dict[str, Any]],
) -> None:
    page, _ = report
    assert len(page.encode()) < 3_000_000
    assert re.findall(r'(?:src|href)="(?!#)([^"]*)"|url\((?!#)|@import', page) == []
    for word in ("tidy", "naïve", "author-3", "doc-7"):
        assert word not in page


def test_iceberg_groups_of_files_and_a_mended_failure_are_told_alike(
    night: dict[str, Any], report: tuple[str, dict[str, Any]]
) -> None:
    """The same texts in a table of snapshots, and in one without partition columns, make the same figures."""
    _, figures = report
    for name, changes in {
        "iceberg": {"output.format": "iceberg"},
        "grouped": {"input.partition_columns": "[]", "input.path": f"{night['input.path']}/dt=2026-01-0[5689]"},
    }.items():
        settings = night | changes | {"output.path": str(Path(night["output.path"]).parent / name)}
        assert run_recorded("score", settings) == (5 if name == "iceberg" else 0)
        _, other = reported(settings, name, reference__kind="none")
        assert other["drift"]["verdict"] == "not known"
        if name == "iceberg":
            assert other["texts"] == figures["texts"]
            assert [p["traits"]["openness"]["mean"] for p in other["partitions"]] == [
                p["traits"]["openness"]["mean"] for p in figures["partitions"]
            ]
            assert [p["traits"]["openness"]["quantiles"] for p in other["partitions"]] == [
                p["traits"]["openness"]["quantiles"] for p in figures["partitions"]
            ]
        else:
            assert other["stretch"]["first"] == "group-000001"
            assert other["texts"]["documents"] == figures["texts"]["documents"] - 60


def test_what_is_missing_is_said_in_one_line(night: dict[str, Any], tmp_path: Path) -> None:
    table, out = night["output.path"], str(tmp_path / "r.html")
    with pytest.raises(InputError, match="no score table is there"):
        run_here("report", {"table.path": str(tmp_path / "nothing"), "output.path": out})
    with pytest.raises(InputError, match=r"partitions\.since dt=zzz.*it has dt=2026-01-05 to"):
        run_here("report", {"table.path": table, "output.path": out, "partitions.since": "dt=zzz"})
    with pytest.raises(SettingsError, match=r"partitions\.since day=1: write it as column=value"):
        run_here("report", {"table.path": table, "output.path": out, "partitions.since": "day=1"})
    with pytest.raises(InputError, match=r"table\.author_column whose: the table has no such column"):
        run_here("report", {"table.path": table, "output.path": out, "table.author_column": "whose"})
    with pytest.raises(InputError, match=r"partitions\.run nobody: no partition of the table is of this run"):
        run_here("report", {"table.path": table, "output.path": out, "partitions.run": "nobody"})
    assert not Path(out).exists()


@pytest.mark.parametrize("becomes", ["gone", "cut"])
def test_a_file_of_the_table_that_a_run_replaces_meanwhile_is_not_taken_for_the_inputs(
    night: dict[str, Any], tmp_path: Path, becomes: str
) -> None:
    """A report sees this when a run commits after the report has read the ledger."""
    for name in ("scores", "scores.job"):
        shutil.copytree(Path(night["output.path"]).parent / name, tmp_path / name)
    file = next((tmp_path / "scores" / "dt=2026-01-09").glob("*.parquet"))
    if becomes == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"a file of the table can't be read.*make the report again") as told:
        run_here("report", {"table.path": str(tmp_path / "scores"), "output.path": str(tmp_path / "r.html")})
    assert file.name in str(told.value) and "move it away" not in str(told.value)


def test_an_artifacts_own_reference_is_used_and_a_damaged_one_refused(night: dict[str, Any], tmp_path: Path) -> None:
    model = Path(night["model.path"])
    rng = np.random.default_rng(0)
    (model / "reference.json").write_text(json.dumps(held_out_reference(rng.beta(2, 8, size=(500, 5)), None)))
    try:
        (run,) = (path.stem for path in Path(night["output.path"] + ".job", "runs").glob("*.json"))
        page, figures = reported(night, "artifact", reference__kind="artifact", partitions__run=run)
        assert [r["run_id"] for r in figures["runs"]] == [run]
        assert figures["drift"]["kind"] == "artifact"
        assert figures["drift"]["reference_texts"] == 500
        assert sum(figures["traits"]["openness"]["reference_bins"]) == 500
        assert "held out when the model was trained" in page
        (model / "reference.json").write_text("{}")
        with pytest.raises(ArtifactError, match=r"reference\.json can't be read"):
            reported(night, "artifact", reference__kind="artifact")
    finally:
        (model / "reference.json").unlink()


# --- in a browser ---

WIDTHS, NARROW = (360, 1280), 360
# The least contrast of words, and of what charts draw, with what is behind them (WCAG 2.2, relative luminance).
CONTRASTS = r"""(() => {
  const light = name => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.color = `var(--${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number)
      .map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    probe.remove();
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + .05) / (y + .05);
  };
  const words = ['ink', 'muted', 'good', 'look', 'bad', 'open', 'link'];
  const drawn = ['one', 'two'];
  return [words, drawn].map(names => Math.min(...names.flatMap(n => [contrast(n, 'paper'), contrast(n, 'card')])));
})()"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser_nothing_overflows_and_all_can_be_read(
    night: dict[str, Any], report: tuple[str, dict[str, Any]], tab: Tab, width: int, dark: bool, tmp_path: Path
) -> None:
    page = Path(night["output.path"]).parent / "report.html"
    tab.open(page, width, dark)
    for opened in (False, True):
        tab.evaluate(f"document.querySelectorAll('details').forEach(d => {{ d.open = {str(opened).lower()} }})")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    words, shapes = tab.evaluate(CONTRASTS)
    assert words >= 4.5, "WCAG AA for text"
    assert shapes >= 3, "WCAG AA for what a chart draws"
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 380) is dark
    shot = tmp_path / f"{width}-{'dark' if dark else 'light'}.png"
    tab.screenshot(shot)
    assert shot.stat().st_size > 100_000
    requests = [e["params"]["request"]["url"] for e in tab.events if e["method"] == "Network.requestWillBeSent"]
    assert requests == [page.as_uri()]
    assert [e["params"]["entry"]["text"] for e in tab.events if e["method"] == "Log.entryAdded"] == []


def test_a_keyboard_and_a_screen_reader_find_their_way(
    night: dict[str, Any], report: tuple[str, dict[str, Any]], tab: Tab
) -> None:
    tab.open(Path(night["output.path"]).parent / "report.html", NARROW)
    tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert tab.evaluate("document.querySelectorAll('h1').length") == 1
    levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    images = [
        n["name"]["value"] for n in nodes if n.get("role", {}).get("value") in ("image", "img") and not n["ignored"]
    ]
    assert len(images) >= 16
    assert all(images)
    assert len(set(images)) == len(images)
    assert tab.evaluate("[...document.querySelectorAll('th')].every(h => h.scope)")
    assert tab.evaluate("[...document.querySelectorAll('table')].every(t => t.caption.textContent.length > 3)")
    repeated = tab.evaluate(
        "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(e => e.id))"
    )
    assert repeated == 0
    assert len(tab.call("Page.printToPDF")["data"]) > 10_000
