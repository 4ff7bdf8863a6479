"""Outages of what the process can go on without for a while: logged when they begin, go on and end."""

import logging
import time

AGAIN_S = 60.0  # between two lines about one outage


class Outage:
    """Logs the outages of one thing: a line at the beginning, one a minute while it lasts, one at the end.

    Args:
        logger: gets the lines.
        what: the thing, as the lines name it.
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self._since: float | None = None
        self._logged_at = 0.0
        self.cause = ""  # of the present outage, or of the last one

    def failed(self, error: BaseException, consequence: str) -> None:
        """It failed once more; `consequence` says what that means for now."""
        now = time.monotonic()
        self.cause = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        if self._since is None:
            self._since = now
        elif now - self._logged_at < AGAIN_S:
            return
        self._logged_at = now
        lasting = f" for {now - self._since:.0f} s" if now > self._since else ""
        self._logger.error("%s has failed%s, %s: %s", self._what, lasting, consequence, self.cause)

    def over(self) -> float | None:
        """It works. Returns how many seconds the outage lasted, None if there was none."""
        if self._since is None:
            return None
        seconds = time.monotonic() - self._since
        self._since = None
        self._logger.warning("%s works again, after %.1f s", self._what, seconds)
        return seconds
