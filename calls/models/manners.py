"""How a profile's agent behaves in a call besides what it says: the fields of `PromptProfile` about that."""

from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models

PROVIDER_CHARS = 40
FALLBACK_HELP = (
    "Takes over when the one chosen cannot be used, or fails in a call. Empty: the embedded one, in English."
)


class Opening(models.TextChoices):
    """Who speaks first."""

    AGENT = "agent", "The agent, with its greeting"
    CALLER = "caller", "The caller"


class Manners(models.Model):
    """The fields; `PromptProfile` has them."""

    opens = models.CharField(
        "who opens",
        max_length=10,
        choices=Opening,
        default=Opening.AGENT,
        help_text="Who speaks first. The caller: no greeting is spoken, the agent waits and then answers.",
    )
    interruption_words = models.PositiveSmallIntegerField(
        "words that interrupt",
        default=0,
        validators=[MaxValueValidator(10)],
        help_text="0 to 10: how many words the caller has to say before the agent stops speaking. 0: any "
        "speech, at once. 2 or 3 let “yes” and “uh-huh” pass; they are then left unanswered.",
    )
    end_phrases = models.TextField(
        "phrases that end the call",
        blank=True,
        validators=[MaxLengthValidator(1000)],
        help_text="One a line, such as “goodbye”. When the caller's turn ends with one, the agent says its "
        "farewell and ends the call; when the agent's own reply does, the call ends once it is spoken.",
    )
    speech_speed = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(0.5), MaxValueValidator(2)],
        help_text="0.5 to 2; 1 is the voice's own pace. It goes as far as the voice can, and a speed among "
        "the voice's settings counts instead.",
    )
    noise_suppression = models.BooleanField(
        default=False,
        help_text="Takes steady noise, such as a street or a fan, out of the caller's voice before anything "
        "listens to it. Leave off for quiet lines: it takes a little of every voice, too.",
    )
    stt_fallback = models.CharField(
        "fallback for speech-to-text", max_length=PROVIDER_CHARS, blank=True, help_text=FALLBACK_HELP
    )
    llm_fallback = models.CharField(
        "fallback for the language model", max_length=PROVIDER_CHARS, blank=True, help_text=FALLBACK_HELP
    )
    tts_fallback = models.CharField(
        "fallback for text-to-speech", max_length=PROVIDER_CHARS, blank=True, help_text=FALLBACK_HELP
    )
    retention_days = models.PositiveIntegerField(
        "days calls are kept",
        default=0,
        validators=[MaxValueValidator(3650)],
        help_text="Days, up to 3650, after which a call is erased with all that is stored of it. 0: never. "
        "It counts for the calls that begin once it is published.",
    )

    class Meta:
        abstract = True
