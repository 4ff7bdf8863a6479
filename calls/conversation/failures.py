"""Which failures are news, and whether the caller has had an apology for what was said last."""

import asyncio

SAME_S = 3.0  # one failure often comes as the same error several times


class Failures:
    """The failures of a call since the caller last said something."""

    def __init__(self) -> None:
        self.is_apologised = False
        self._told: dict[tuple[str, str], float] = {}  # when, by part and message

    def caller_spoke(self) -> None:
        """The caller said something: what fails from now on fails anew."""
        self.is_apologised = False
        self._told.clear()

    def is_new(self, part: str, message: str) -> bool:
        """Whether this part has not failed with this message a moment ago, for the same words."""
        now = asyncio.get_running_loop().time()
        self._told = {failure: at for failure, at in self._told.items() if now - at < SAME_S}
        if (part, message) in self._told:
            return False
        self._told[part, message] = now
        return True
