"""The languages that profiles can choose by name, and which providers know them."""

from calls.providers import catalogue

_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "fi": "Finnish", "fr": "French", "gu": "Gujarati",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ka": "Georgian", "kn": "Kannada", "ko": "Korean", "ml": "Malayalam", "mr": "Marathi",
    "ms": "Malay", "nl": "Dutch", "no": "Norwegian", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sv": "Swedish", "ta": "Tamil", "te": "Telugu",
    "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
_REGIONS = {
    "AR": "Argentina", "AT": "Austria", "AU": "Australia", "BE": "Belgium", "BR": "Brazil", "CA": "Canada",
    "CH": "Switzerland", "CN": "China", "DE": "Germany", "ES": "Spain", "FR": "France", "GB": "Britain",
    "IE": "Ireland", "IN": "India", "MX": "Mexico", "PT": "Portugal", "TW": "Taiwan", "US": "United States",
}  # fmt: skip
_REGIONAL = (
    "de-AT", "de-CH", "de-DE", "en-AU", "en-CA", "en-GB", "en-IE", "en-IN", "en-US", "es-AR", "es-ES",
    "es-MX", "es-US", "fr-BE", "fr-CA", "fr-CH", "fr-FR", "nl-BE", "pt-BR", "pt-PT", "zh-CN", "zh-TW",
)  # fmt: skip


def name_of(tag: str) -> str:
    """The language's name, such as "German (Austria)" for de-AT; a tag that has none here stays one."""
    language, _, region = tag.partition("-")
    if language not in _NAMES:
        return tag
    return f"{_NAMES[language]} ({_REGIONS.get(region, region)})" if region else _NAMES[language]


def known_by(tag: str) -> list[str]:
    """The labels of the providers that both hear and speak the language; the embedded one is the first."""
    hear, speak = ({p.name: p for p in catalogue.providers(kind) if p.knows(tag)} for kind in ("stt", "tts"))
    both = [provider for name, provider in hear.items() if name in speak]
    return ["embedded" if provider.name == catalogue.LOCAL else provider.label for provider in both]


def choices() -> list[tuple[str, str]]:
    """The choices of a profile's form field, by name: each tag, and a label that says who knows it."""
    tags = sorted({*_NAMES, *_REGIONAL}, key=name_of)
    return [(tag, f"{name_of(tag)} · {tag} · {', '.join(known_by(tag)) or 'nobody here'}") for tag in tags]
