"""Whom a client believes: the machine's certificates, read once."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache


def trust() -> ssl.SSLContext:
    """The context that the SDKs would each make for themselves: reading all certificates takes longer than a request.

    A program may name other certificates between one client and the next; so what it names is part of the question.
    """
    return _read(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _read(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()
