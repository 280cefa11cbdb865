"""Keyed hashes that replace ids and authors: whoever has the key can find a person's rows, nobody else can.

A pseudonym is the HMAC-SHA-256 of the value's text in UTF-8, as 64 hex digits; a whole number is hashed as its decimal
digits. Under one key, a value has the same pseudonym in every column and table, so that authors still join:

    BIGFIVE_PSEUDONYM_KEY=... python -m bigfive_udf.pseudonyms author-17

Pseudonyms change neither a text that names its author nor the name of a file or a partition.
"""

from __future__ import annotations

import hmac
import os
import sys

from bigfive_udf.errors import SettingsError

KEY_VARIABLE = "BIGFIVE_PSEUDONYM_KEY"
_LEAST_CHARACTERS = 32
_ANY_VALUE = "bigfive-udf: this tells one key from another"
_MAKE_ONE = "make one with: openssl rand -hex 32"


def pseudonym(value: str | int | bytes | None, key: str | bytes) -> str | None:
    """The pseudonym of an id or an author; None stays None.

    >>> pseudonym("author-17", "0123456789abcdef0123456789abcdef")[:16]
    '3f5fa0e5e0a0c4fa'
    """
    if value is None:
        return None
    message = value if isinstance(value, bytes) else str(value).encode()
    return hmac.digest(key.encode() if isinstance(key, str) else key, message, "sha256").hex()


def key_fingerprint(key: bytes) -> str:
    """A public identifier of a key: the same for the same key, and no help to find the key."""
    return (pseudonym(_ANY_VALUE, key) or "")[:12]


def key_of_environment(variable: str) -> bytes:
    """The key that an environment variable holds.

    Raises:
        SettingsError: the variable is not set, its key is too short, or was copied with white space around it.
    """
    key = os.environ.get(variable, "")
    if not key:
        raise SettingsError(
            f"the environment variable {variable} is not set, which holds the key of pseudonyms: {_MAKE_ONE}"
        )
    if key != key.strip():
        raise SettingsError(f"the key in {variable} begins or ends with white space: take that away")
    if len(key) < _LEAST_CHARACTERS:
        raise SettingsError(
            f"the key in {variable} has {len(key)} characters and can be guessed, at least {_LEAST_CHARACTERS} are "
            f"needed: {_MAKE_ONE}"
        )
    return key.encode("utf-8", "surrogateescape")


def _main(values: list[str]) -> int:
    if not values:
        print(f"usage: {KEY_VARIABLE}=... python -m bigfive_udf.pseudonyms VALUE ...", file=sys.stderr)
        return 2
    try:
        key = key_of_environment(KEY_VARIABLE)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for value in values:
        print(pseudonym(os.fsencode(value), key))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
