"""Tokens that we give out: only their hash is stored."""

import hashlib


def hashed(token: str) -> str:
    """Return what is stored of a token of ours: long and random ones need no slower hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
