"""TLS: one SSL context with the machine's certificates, shared by all clients."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache


def trust() -> ssl.SSLContext:
    """The SSL context that each SDK would make for itself. Reading all certificates takes longer than a request.

    It is cached for each value of SSL_CERT_FILE and SSL_CERT_DIR, which may change between two clients.
    """
    return _read(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _read(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()
