"""What the log leaves out."""

import logging


class RefusedRequests(logging.Filter):
    """Makes a request that was refused (4xx) one line, without a traceback: any stranger can send many.

    A `/readyz` that says no is none: load balancers ask all the time, and what is wrong is logged by itself.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the traceback off the record of a refused request; let every other record pass as it is."""
        status = getattr(record, "status_code", 0)
        if 400 <= status < 500:
            record.exc_info = record.exc_text = None
        return not (status == 503 and getattr(getattr(record, "request", None), "path", "") == "/readyz")
