"""A call's Pipecat pipeline. Importing it sends Pipecat's log to ours."""

import logging
from typing import Any

from loguru import logger as pipecat_logger


def _to_logging(message: Any) -> None:
    record = message.record
    logging.getLogger(record["name"]).log(record["level"].no, record["message"])


# From warnings on: writing its debug log would cost more than the audio. Set before Pipecat is imported, as
# it greets whoever imports it.
pipecat_logger.remove()
pipecat_logger.add(_to_logging, level="WARNING", format="{message}")
