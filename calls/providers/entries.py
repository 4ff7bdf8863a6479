"""The providers that exist, and the settings each takes. `catalogue.register` adds others."""

from calls.providers.provider import Provider, Setting

LOCAL = "local"

# The languages of Cartesia's models, of ink-whisper and of sonic-3, by ISO 639.
_WHISPER = (
    "af", "am", "ar", "as", "az", "ba", "be", "bg", "bn", "bo", "br", "bs", "ca", "cs", "cy", "da", "de",
    "el", "en", "es", "et", "eu", "fa", "fi", "fo", "fr", "gl", "gu", "ha", "haw", "he", "hi", "hr", "ht",
    "hu", "hy", "id", "is", "it", "ja", "jw", "ka", "kk", "km", "kn", "ko", "la", "lb", "ln", "lo", "lt",
    "lv", "mg", "mi", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "oc", "pa", "pl",
    "ps", "pt", "ro", "ru", "sa", "sd", "si", "sk", "sl", "sn", "so", "sq", "sr", "su", "sv", "sw", "ta",
    "te", "tg", "th", "tk", "tl", "tr", "tt", "uk", "ur", "uz", "vi", "yi", "yo", "yue", "zh",
)  # fmt: skip
_SONIC = (
    "ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "fi", "fr", "gu", "he", "hi", "hr", "hu", "id",
    "it", "ja", "ka", "kn", "ko", "ml", "mr", "ms", "nl", "no", "pa", "pl", "pt", "ro", "ru", "sk", "sv",
    "ta", "te", "th", "tl", "tr", "uk", "vi", "zh",
)  # fmt: skip

_TEMPERATURE = Setting(
    "temperature", float, "How freely the model words its replies; 0 always takes the likeliest word.",
    default=0.3, low=0, high=2,
)  # fmt: skip
_TOP_P = Setting("top_p", float, "Share of the likeliest words to choose from.", default=1.0, low=0, high=1)
_MAX_TOKENS = "The longest reply, in tokens (a word is about 1.3). Short replies suit the telephone."
_LANGUAGE = "The language spoken, as a code such as en or en-US; empty takes the call's."

PROVIDERS = [
    Provider(
        "stt", LOCAL, "Embedded (Moonshine)", "calls.providers.local.stt", "build",
        (
            Setting("language", str, _LANGUAGE, choices=("en", "en-US")),
            Setting("model", str, "The embedded model; base mistakes fewer words and has to be installed.",
                    default="moonshine-tiny-en", choices=("moonshine-tiny-en", "moonshine-base-en"),
                    installed_by=(("moonshine-base-en", "make better-stt"),)),
        ),
        languages=("en",),
    ),
    Provider(
        "stt", "cartesia", "Cartesia", "calls.providers.cloud", "cartesia_stt",
        (
            Setting("language", str, _LANGUAGE, pattern="[a-z]{2,3}(-[A-Z]{2})?", example="en or en-US"),
            Setting("model", str, "Cartesia's speech-to-text model.", default="ink-whisper",
                    pattern=r"ink-[\w.-]+", example="ink-whisper"),
        ),
        key="CARTESIA_API_KEY", schemes=("wss", "ws"), languages=_WHISPER,
    ),
    Provider(
        "llm", LOCAL, "Embedded (SmolLM2 135M)", "calls.providers.local.llm", "build",
        (
            Setting("model", str, "The embedded language model.", default="SmolLM2-135M-Instruct",
                    choices=("SmolLM2-135M-Instruct",)),
            _TEMPERATURE, _TOP_P,
            Setting("max_tokens", int, _MAX_TOKENS, default=80, low=1, high=512),
        ),
        prompt_chars=3000,  # 620 tokens of its 2048: 4.5 s on one core, while the greeting is spoken
    ),
    Provider(
        "llm", "openai", "OpenAI", "calls.providers.cloud", "openai_llm",
        (
            Setting("model", str, "The name of the chat model.", default_from="OPENAI_MODEL",
                    pattern=r"\S+", example="gpt-4o-mini"),
            Setting("temperature", float, _TEMPERATURE.help, low=0, high=2),
            Setting("top_p", float, _TOP_P.help, low=0, high=1),
            Setting("max_tokens", int, _MAX_TOKENS, default=150, low=1, high=4096),
        ),
        key="OPENAI_API_KEY", schemes=("https", "http"),
    ),
    Provider(
        "tts", LOCAL, "Embedded (Hibari)", "calls.providers.local.tts", "build",
        (
            Setting("voice", str, "The embedded voice.", default="heart", choices=("heart",)),
            Setting("speed", float, "Pace of speech; 1 is the voice's own.", default=1.0, low=0.5, high=2),
        ),
        languages=("en",),
    ),
    Provider(
        "tts", "cartesia", "Cartesia", "calls.providers.cloud", "cartesia_tts",
        (
            Setting("voice", str, "The id of a Cartesia voice.", default_from="CARTESIA_VOICE",
                    pattern="[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
                    example="71a7ad14-091c-4e8e-a314-022ece01c121"),
            Setting("speed", float, "Pace of speech; 1 is the voice's own.", default=1.0, low=0.6, high=1.5),
        ),
        key="CARTESIA_API_KEY", schemes=("wss", "ws"), languages=_SONIC,
    ),
]  # fmt: skip
