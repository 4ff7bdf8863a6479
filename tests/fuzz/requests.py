"""Requests to the pages: every address of the configuration, asked in ways nobody foresaw."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from tests.fuzz.addresses import Address

PERSONAS = ("admin", "analyst", "nobody", "superuser")
CSRF = "a" * 32  # a token that matches a cookie of its own
METHODS = (
    ["GET"] * 6 + ["POST"] * 4 + ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"]
)
PARAMETERS = [
    "q",
    "from_date",
    "to_date",
    "profile",
    "status",
    "has_errors",
    "tests",
    "before",
    "after",
    "turn",
    "event",
    "version",
    "from",
    "to",
    "archived",
    "page",
    "next",
    "o",
    "p",
    "e",
    "all",
    "_popup",
    "_to_field",
    "_changelist_filters",
    "term",
    "app_label",
    "model_name",
    "field_name",
    "id__exact",
    "id__in",
    "is_staff__exact",
    "groups__id__exact",
    "profile__isnull",
    "user__password",
]
FIELDS = [
    "verb",
    "argument",
    "username",
    "password",
    "password1",
    "password2",
    "usable_password",
    "action",
    "_selected_action",
    "select_across",
    "index",
    "_save",
    "_continue",
    "_addanother",
    "_saveasnew",
    "_publish",
    "post",
    "name",
    "slug",
    "greeting",
    "system_prompt",
    "stt_provider",
    "llm_provider",
    "tts_provider",
    "stt_settings",
    "llm_settings",
    "tts_settings",
    "end_of_turn",
    "end_of_turn_silence_s",
    "max_duration_s",
    "language",
    "is_default",
    "is_published",
    "api_key",
    "base_url",
    "provider",
    "label",
    "permissions",
    "groups",
    "email",
    "date_joined_0",
    "date_joined_1",
    "note",
    "text",
    "revisions",
    "confirmed",
    "form-TOTAL_FORMS",
    "form-INITIAL_FORMS",
]

HEADERS = [
    "Accept",
    "Accept-Language",
    "Accept-Encoding",
    "If-Modified-Since",
    "If-None-Match",
    "Range",
    "Origin",
    "Referer",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "Authorization",
    "User-Agent",
    "X-Requested-With",
    "Content-Type",
    "Content-Encoding",
    "Expect",
    "Upgrade",
    "Cookie",
]


@dataclass(frozen=True)
class Request:
    """One request: `target` is the path and query as they go out, `persona` who asks."""

    persona: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def wire(self, session: str) -> bytes:
        """The request as it goes out with the persona's session key; the connection is closed after it."""
        names = {name.lower() for name, _ in self.headers}
        own = [("Connection", "close"), ("Content-Length", str(len(self.body)))]
        own += [] if "host" in names else [("Host", "localhost")]
        own += [] if "cookie" in names else [("Cookie", f"csrftoken={CSRF}; sessionid={session}")]
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{k}: {v}" for k, v in (*own, *self.headers))]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + self.body


_any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
_numbers = st.integers().map(str) | st.sampled_from(
    ["0", "-1", "1", "9" * 30, "2147483648", "1e9", "NaN", "٣", "1.5"]
)
_days = st.dates().map(str) | st.sampled_from(
    ["2026-13-01", "0000-00-00", "10000-01-01", "2026-03-04T10:00:00"]
)
_places = st.builds(
    lambda at, id: f"{at}_{id}", st.datetimes().map(str) | _any_text, st.uuids().map(str) | _any_text
)
_texts = st.one_of(
    _any_text,
    st.sampled_from(
        [
            "",
            "\0",
            "\ud800",
            "'",
            '"',
            '"open',
            "*",
            "a*",
            "\\",
            "%",
            "_",
            "-x",
            "🙂",
            "İ",
            "ß" * 50,
            "/admin/",
            "//evil.example",
            "{{7*7}}",
            "<script>",
            "()|&!:*",
            "a" * 3_000,
            "1,2,3",
            "{",
            "[]",
            "null",
            "on",
        ]
    ),
)
values = st.one_of(_texts, _numbers, _days, _places, st.uuids().map(str))


def _encoded(pairs: list[tuple[str, str]]) -> str:
    return urlencode(pairs, errors="surrogatepass")


_queries = st.one_of(
    st.just(""),
    st.lists(st.tuples(st.sampled_from(PARAMETERS) | _any_text, values), max_size=4).map(_encoded),
    st.binary(max_size=30).map(quote),
    st.text("%&=;+[]0az\\^`{|}", max_size=30),
)

_header_values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
_headers = st.one_of(
    st.tuples(
        st.sampled_from(HEADERS),
        _header_values,
    ),
    st.sampled_from(
        [
            ("Host", "evil.example"),
            ("Host", "localhost:99999"),
            ("Host", "[::1"),
            ("Host", ""),
            ("Range", "bytes=0-1,5-"),
            ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("Content-Type", "multipart/form-data; boundary=x"),
            ("Content-Type", "multipart/form-data"),
            ("Content-Type", "application/json"),
            ("Content-Type", "text/html; charset=nothing"),
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-7"),
            ("X-Forwarded-For", "1.2.3.4, ::ffff:1.2.3.4, x"),
            ("Accept-Language", "x" * 2_000),
            ("Cookie", "sessionid=" + "z" * 32),
            ("Cookie", "sessionid=; csrftoken=\x01"),
            ("Cookie", "messages=W1siX19qc29uX21lc3NhZ2UiLDAsNDAsIngiXV0:1:2"),
            ("Cookie", "=; ;;a=b=c; \xff"),
        ]
    ),
)
_forms = st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=8).map(
    lambda pairs: _encoded(pairs).encode()
)
_multipart = st.binary(max_size=60).map(
    lambda data: (
        b'--x\r\nContent-Disposition: form-data; name="name"; filename="f"\r\n\r\n' + data + b"\r\n--x--\r\n"
    )
)
_bodies = st.one_of(st.just(b""), _forms, _forms, _multipart, st.binary(max_size=60))


def _written_badly(path: str, how: int) -> str:
    """The path as somebody may write it by mistake or on purpose."""
    return [
        path,
        path,
        path,
        path.rstrip("/"),
        path + "/",
        path.upper(),
        f"/.{path}",
        path + "%00",
        f"/{path}",
    ][how]


def requests(found: Sequence[Address], known: Sequence[str]) -> st.SearchStrategy[Request]:
    """Requests to these addresses; `known` are keys of rows there are."""
    holes = st.one_of(st.sampled_from(list(known)), st.uuids().map(str), _numbers, _texts, st.just("calls"))
    keys = holes.map(lambda value: quote(value.encode("utf-8", "surrogatepass"), safe="/"))

    def paths(address: Address) -> st.SearchStrategy[str]:
        if not address.holes:
            return st.just(address.template)
        return st.fixed_dictionaries(dict.fromkeys(address.holes, keys)).map(address.filled)

    targets = st.builds(
        lambda path, how, query: _written_badly(path, how) + (f"?{query}" if query else ""),
        st.sampled_from(list(found)).flatmap(paths)
        | st.sampled_from(["/static/css/site.css", "/favicon.ico"]),
        st.integers(0, 8),
        _queries,
    )
    return st.builds(
        _request,
        st.sampled_from(PERSONAS),
        st.sampled_from(METHODS),
        targets,
        st.lists(_headers, max_size=3),
        _bodies,
    )


def _request(persona: str, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Request:
    """With a token of its own, and as a form if nothing else is said."""
    named = {name for name, _ in headers}
    form = [] if "Content-Type" in named else [("Content-Type", "application/x-www-form-urlencoded")]
    return Request(persona, method, target, (("X-CSRFToken", CSRF), *form, *headers), body)
