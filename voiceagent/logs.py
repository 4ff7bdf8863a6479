"""What the log leaves out."""

import logging


class RefusedRequests(logging.Filter):
    """Makes a request that was refused (4xx) one line, without a traceback: any stranger can send many."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the traceback off the record of a refused request; let every record pass."""
        if 400 <= getattr(record, "status_code", 0) < 500:
            record.exc_info = record.exc_text = None
        return True
