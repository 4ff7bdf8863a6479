"""What is known of a conversation while it goes on, and who is told: between the observer and the call."""

from dataclasses import dataclass, field
from typing import Protocol

from pipecat.processors.frame_processor import FrameProcessor

from calls.rustpbx.messages import Timed

CALLER, AGENT = "caller", "agent"
UNTOLD = -1


@dataclass(frozen=True, slots=True)
class TurnState:
    """A turn as far as it is known. Times are ms from the call's start; `end_ms` is None while it lasts."""

    speaker: str
    start_ms: int
    index: int = UNTOLD  # in the order in which turns were first told
    text: str = ""
    end_ms: int | None = None
    interrupted: bool = False
    language: str = ""
    latency: dict[str, int] = field(default_factory=dict)  # ms by stt, llm_ttft, tts_ttfb, turn_latency


class Listener(Protocol):
    """Whom the observer tells. Nothing here may wait: it is called for every word."""

    def tell(self, message: Timed) -> None:
        """A message for RustPBX."""

    def turn(self, turn: TurnState) -> None:
        """A turn that began, went on or ended; the same index replaces what was told before."""

    def interrupted(self, spoken: str) -> None:
        """The caller spoke over the agent, which had said so much of its turn."""

    def provider_failed(self, kind: str, message: str) -> None:
        """A service (stt, llm, tts, or pipeline for anything else) reported an error."""

    def provider_faltered(self, kind: str, message: str) -> None:
        """A service did not do all it should; what it did do will serve."""

    def awaiting(self, kind: str | None) -> None:
        """What is due now: a transcript ("stt"), the model ("llm"), its voice ("tts"), or nothing."""


@dataclass(frozen=True, slots=True)
class Services:
    """The processors whose frames mean something here."""

    stt: FrameProcessor
    words: FrameProcessor  # what the recogniser says, and nothing it said lost
    caller: FrameProcessor  # the aggregator of the caller's turns
    llm: FrameProcessor
    tts: FrameProcessor
    output: FrameProcessor
    agent: FrameProcessor  # the aggregator of the agent's turns

    def kind_of(self, processor: FrameProcessor | str | None) -> str:
        """stt, llm or tts; anything else is the pipeline's."""
        for kind in ("stt", "llm", "tts"):
            service = getattr(self, kind)
            if processor is service or processor == service.name:
                return kind
        return "pipeline"
