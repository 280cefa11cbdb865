"""The pages that are made from the code, and the promises of the README."""

from __future__ import annotations

import re
from pathlib import Path

from bigfive_udf.settings.reference import reference

REPOSITORY = Path(__file__).resolve().parent.parent


def test_the_settings_page_is_what_the_code_says():
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    assert page == reference(), "run: python -m bigfive_udf.settings.reference > docs/settings.md"


def test_every_link_of_the_pages_leads_somewhere():
    for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_file_that_the_readme_names_is_there():
    text = (REPOSITORY / "README.md").read_text()
    file_map = text[text.index("## Where things are") : text.index("## Terms")]
    modules = set(re.findall(r"\b(\w+\.py)\b", file_map))
    existing = {p.name for p in REPOSITORY.glob("**/*.py") if ".venv" not in p.parts}
    assert modules, "the map names modules"
    assert modules <= existing


def test_no_make_target_is_without_a_word_in_help():
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.M))
    documented = set(re.findall(r"^([a-z0-9-]+):.*  ## ", makefile, re.M))
    assert targets == documented
    assert {"help", "setup", "demo", "test", "lint", "bench", "dist"} <= targets
