"""Mask passwords and tokens in the properties of a catalog: no message and no record may show them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

STARS = "***"
_ADDRESSES = frozenset({"uri", "warehouse", "s3.endpoint", "glue.endpoint", "gcs.service.host", "oauth2-server-uri"})
"""Addresses, shown without the part before the host, which may be a password, and without the query."""
_HARMLESS = frozenset(
    {
        "type", "py-catalog-impl", "py-io-impl", "init_catalog_tables", "pool_pre_ping", "echo", "prefix", "scope",
        "client.region", "s3.region", "s3.anonymous", "s3.connect-timeout", "s3.request-timeout", "s3.profile-name",
        "s3.force-virtual-addressing", "client.profile-name", "glue.region", "glue.id", "glue.profile-name",
        "glue.skip-archive", "dynamodb.region", "dynamodb.profile-name", "table-name", "hdfs.host", "hdfs.port",
        "hdfs.user", "hive.hive2-compatible", "hive.kerberos-authentication", "gcs.project-id",
        "gcs.default-bucket-location", "gcp.bigquery.project-id", "gcp.bigquery.location", "adls.account-name",
        "adls.account-host", "rest.sigv4-enabled", "rest.signing-region", "rest.signing-name",
    }
)  # fmt: skip
"""Properties shown as they are. Other properties of pyiceberg, also future ones, are not shown."""
_SECRET = re.compile("secret|token|passw|pwd|credential|key|auth|sig|sas", re.IGNORECASE)
# In an address of Azure, the part before the host is a container.
_OF_AZURE = re.compile("(abfss?|wasbs?)://[^:@/?#]+@[^@?#;]+")
# Minimum length of a secret whose name does not suggest one, and of a word within a value that counts as a secret. So
# messages keep words such as https and true.
_LEAST_LETTERS, _LEAST_OF_PART = 8, 4


def shown(key: str, value: str) -> str:
    """What may be shown of a property: the whole value if it is harmless, the place in an address, else only stars."""
    if key in _HARMLESS:
        return value
    if key not in _ADDRESSES:
        return STARS
    scheme, colon, rest = value.partition("://")
    if not colon:
        return value if key == "warehouse" else STARS  # a warehouse may be just a name
    if _OF_AZURE.fullmatch(value):
        return value
    before, at, place = rest.rpartition("@")
    if set("?#;") & set(before):
        return f"{scheme}://{STARS}"  # a password contains ?, # or ;, or the query contains @
    address, *asked = re.split("[?#;]", place, maxsplit=1)
    return f"{scheme}://{STARS * bool(at)}{at}{address}{f'?{STARS}' if asked else ''}"


def without_secrets(text: str, properties: Mapping[str, str]) -> str:
    """The text with stars in place of every secret in the properties, also a secret that is only part of a value."""
    found = {form for key, value in properties.items() for part in _secrets(key, value) for form in _forms(part)}
    for secret in sorted(found, key=len, reverse=True):  # a whole secret before a part of it
        text = text.replace(secret, STARS)
    return text


def _secrets(key: str, value: str) -> Iterator[str]:
    if key in _HARMLESS or shown(key, value) == value:
        return
    for who in _before_hosts(value):
        user, colon, password = who.partition(":")
        yield from _if_secret("password" if colon else "", password if colon else user)
    if key == "credential":  # of OAuth2, client:secret
        yield from _if_secret(key, value.partition(":")[2])
    rest = value.partition("://")[2] if key in _ADDRESSES else ""
    if rest:
        yield from _if_secret("", rest.partition("?")[2])
        yield from _named(rest)
        return
    yield from _if_secret(key, value)
    yield from _named(value)
    for word in value.split():
        if len(word) >= _LEAST_OF_PART:
            yield from _if_secret(key, word)


def _before_hosts(value: str) -> set[str]:
    """What precedes the host in an address: up to an @ of its authority, or up to any @, as a password may have a /."""
    rest = value.partition("://")[2]
    authority = re.split("[/?#;]", rest, maxsplit=1)[0]
    return {part.rpartition("@")[0] for part in (rest, authority) if "@" in part}


def _named(text: str) -> Iterator[str]:
    """The secrets among the name=value pairs of an address or a connection string."""
    for form in _forms(text):
        yield from (value for name, value in re.findall(r"([\w.-]+)=([^;&?#\s]+)", form) if _SECRET.search(name))


def _if_secret(name: str, value: str) -> Iterator[str]:
    if value and (_SECRET.search(name) or len(value) >= _LEAST_LETTERS):
        yield value


def _forms(secret: str) -> set[str]:
    return {secret, unquote_plus(secret)}
