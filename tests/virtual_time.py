"""Time that passes at once."""

import asyncio


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    now = 100.0

    def time(self):
        return self.now

    def _run_once(self):
        timers = [handle.when() for handle in self._scheduled if not handle.cancelled()]
        if not self._ready and timers:
            self.now = max(self.now, min(timers))
        super()._run_once()
