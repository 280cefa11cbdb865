"""Mask passwords and tokens in the properties of a catalog: no message and no record may show them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

_SECRET = re.compile(r"(secret|token|password|credential|key)", re.IGNORECASE)


def without_secrets(text: str, properties: Mapping[str, str]) -> str:
    """The text with stars in place of every secret in the properties, also a password inside a URI."""
    for key, value in properties.items():
        password = value.partition("://")[2].rpartition("@")[0].partition(":")[2]
        for secret in filter(None, (password, unquote(password), value if _SECRET.search(key) else "")):
            text = text.replace(secret, "***")
    return text
