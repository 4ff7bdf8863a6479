"""A call's Pipecat pipeline. Importing it sends Pipecat's log to ours."""

import logging
from typing import Any

from loguru import logger as pipecat_logger


def _to_logging(message: Any) -> None:
    record = message.record
    logging.getLogger(record["name"]).log(record["level"].no, record["message"])


# Warnings and above only: the debug log would cost more CPU than the audio. This is set before Pipecat is
# imported, as Pipecat logs a greeting at its import.
pipecat_logger.remove()
pipecat_logger.add(_to_logging, level="WARNING", format="{message}")
