"""The PBXes as this process knows them, also while the database is away."""

import math
import time

from calls.gateway.pbx.question import Stranger
from calls.models import Pbx
from calls.models.pbx import of_token

REMEMBERED_S = 2.0  # what is changed about a PBX counts by then
STRANGE_S = 0.5  # an unknown token is looked for in the database as often: any stranger can send many

_remembered: list[Pbx] = []
_read_at = -math.inf
_looked_for_at = -math.inf  # a token that was not known


def known(token: str) -> Pbx:
    """Return the PBX of this token, as it was at most 2 s ago. For database threads. Raises Stranger."""
    global _looked_for_at  # noqa: PLW0603  of the list above
    pbx = of_token(_remembered, token)
    now = time.monotonic()
    if pbx is None and now - _looked_for_at >= STRANGE_S:
        _looked_for_at = now
        read()
        pbx = of_token(_remembered, token)
    elif now - _read_at >= REMEMBERED_S:
        read()
        pbx = of_token(_remembered, token)
    if pbx is None:
        raise Stranger
    pbx.token_used(token)
    return pbx


def fresh(token: str) -> Pbx | None:
    """Return the PBX of this token if that can be told without the database."""
    is_fresh = time.monotonic() - _read_at < REMEMBERED_S
    pbx = of_token(_remembered, token) if is_fresh else None
    return pbx if pbx is not None and not pbx.former_ivr_token_hash else None


def remembered(token: str) -> Pbx | None:
    """Return the PBX of this token, as it was known last: for when the database is away."""
    return of_token(_remembered, token)


def read() -> None:
    """Read them from the database. Raises what it raises."""
    global _read_at  # noqa: PLW0603  of the list above
    began = time.monotonic()
    _remembered[:] = Pbx.objects.prefetch_related("routes__profile", "destinations")
    _read_at = began


def forget() -> None:
    """Whoever asks next has them read."""
    global _read_at, _looked_for_at  # noqa: PLW0603  of the list above
    _read_at = _looked_for_at = -math.inf
