"""Pseudonyms: what the standard library's hmac and openssl say, and keys that are refused."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import subprocess
import sys

import pytest

from bigfive_udf.errors import SettingsError
from bigfive_udf.pseudonyms import key_fingerprint, key_of_environment, pseudonym
from bigfive_udf.settings.score import InputSettings

KEY = "a key that nobody can guess, of more than 32 characters"
VARIABLE = "BIGFIVE_TEST_KEY"


@pytest.mark.parametrize(
    ("value", "message"), [("author-17", b"author-17"), (-42, b"-42"), ("ünï", "ünï".encode()), ("", b"")]
)
def test_a_pseudonym_is_the_hmac_of_the_text(value, message):
    assert pseudonym(value, KEY) == hmac.new(KEY.encode(), message, hashlib.sha256).hexdigest()
    assert pseudonym(value, KEY.encode()) == pseudonym(value, KEY) != pseudonym(value, KEY + "!")


def test_null_has_no_pseudonym():
    assert pseudonym(None, KEY) is None


def test_who_has_the_key_finds_an_author_on_the_command_line():
    command = [sys.executable, "-m", "bigfive_udf.pseudonyms", "author-17", "7"]
    done = subprocess.run(command, env=os.environ | {"BIGFIVE_PSEUDONYM_KEY": KEY}, capture_output=True, text=True)
    assert done.stdout.split() == [pseudonym("author-17", KEY), pseudonym(7, KEY)]
    if shutil.which("openssl"):
        openssl = ["openssl", "dgst", "-sha256", "-hmac", KEY, "-hex"]
        said = subprocess.run(openssl, input="author-17", capture_output=True, text=True).stdout
        assert said.split()[-1] == done.stdout.split()[0]
    none = {k: v for k, v in os.environ.items() if k != "BIGFIVE_PSEUDONYM_KEY"}
    failed = subprocess.run(command, env=none, capture_output=True, text=True)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("error: the environment variable BIGFIVE_PSEUDONYM_KEY is not set")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "BIGFIVE_TEST_KEY is not set.*make one with: openssl rand -hex 32"),
        ("", "BIGFIVE_TEST_KEY is not set"),
        ("too-short-for-a-key", "has 19 characters and can be guessed, at least 32 .* make one with"),
        (KEY + "\n", "white space"),
    ],
)
def test_a_missing_or_a_poor_key_is_refused_and_not_told(monkeypatch, key, said):
    monkeypatch.delenv(VARIABLE, raising=False)
    if key is not None:
        monkeypatch.setenv(VARIABLE, key)
    with pytest.raises(SettingsError, match=said) as refused:
        key_of_environment(VARIABLE)
    assert not key or key.strip() not in str(refused.value)


def test_a_key_among_the_settings_is_refused_and_not_told():
    for key in ("0123456789abcdef0123456789abcdef", KEY):
        with pytest.raises(ValueError, match="must be the name of an environment variable") as refused:
            InputSettings(path="x", pseudonym_key=key)
        assert key not in refused.value.errors()[0]["msg"]


def test_a_fingerprint_tells_keys_apart():
    assert key_fingerprint(KEY.encode()) == key_fingerprint(KEY.encode()) != key_fingerprint(b"another" * 8)
    assert len(key_fingerprint(KEY.encode())) == 12
