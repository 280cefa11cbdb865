"""Passwords and tokens among the properties of a catalog, which no message and no record may tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

_SECRET = re.compile(r"(secret|token|password|credential|key)", re.IGNORECASE)


def without_secrets(text: str, properties: Mapping[str, str]) -> str:
    """A text in which stars stand for every secret that the properties hold, that of a URI among them."""
    for key, value in properties.items():
        password = value.partition("://")[2].rpartition("@")[0].partition(":")[2]
        for secret in filter(None, (password, unquote(password), value if _SECRET.search(key) else "")):
            text = text.replace(secret, "***")
    return text
