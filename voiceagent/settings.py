"""Settings: the only file that reads the environment.

Every variable has a default that works on a laptop with no services and no keys. A variable of the operating
system beats the same name in `.env`. `.env.example` lists them all.
"""

import ipaddress
import os
import socket
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
# The file that adds to the environment; another path serves a second copy or, as /dev/null, none.
environ.Env.read_env(env.str("ENV_FILE", default=str(BASE_DIR / ".env")), overwrite=False)

# --- Where things are -------------------------------------------------------------------------------------

# The database and every file the product writes.
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "data"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)

# Where the server listens.
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8765)

# What people call this process among several that share a database.
NODE_NAME = env.str("NODE_NAME", default=f"{socket.gethostname()}:{PORT}")

# --- Security ---------------------------------------------------------------------------------------------

# True shows error pages with source; the default is off, as errors go to the log anyway.
DEBUG = env.bool("DEBUG", default=False)


def _is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# A server other machines can reach is in production: it must be told its secrets and names.
PRODUCTION = not _is_loopback(HOST) or env.bool("PRODUCTION", default=False)


def _local_secret_key() -> str:
    """A random key made at first start and kept in DATA_DIR, so that logins outlive a restart."""
    path = DATA_DIR / "secret_key"
    if not path.exists():
        # Linked once it is whole: another first start at the same time must not read half a key.
        with tempfile.NamedTemporaryFile("w", dir=DATA_DIR, prefix="secret_key.") as file:  # of mode 600
            file.write(get_random_secret_key())
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text()


SECRET_KEY = env.str("SECRET_KEY", default="")
# Former secret keys, separated by commas: what they signed and encrypted can still be read.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
# Tokens that let a client other than this machine stream calls, separated by commas.
STREAM_TOKENS = env.list("STREAM_TOKENS", default=[])


def _missing() -> list[str]:
    """What has to be set and is not, each with what it is."""
    missing = []
    if PRODUCTION and not SECRET_KEY:
        missing.append("SECRET_KEY (a long random text)")
    if PRODUCTION and not ALLOWED_HOSTS:
        missing.append("ALLOWED_HOSTS (the names or addresses the pages are asked for by)")
    if not _is_loopback(HOST) and not STREAM_TOKENS:
        missing.append("STREAM_TOKENS (long random texts; one goes into RustPBX's server_url as ?token=…)")
    return missing


if missing := _missing():
    why = "PRODUCTION is true" if _is_loopback(HOST) else f"other machines reach HOST={HOST}"
    raise ImproperlyConfigured(
        f"As {why}, these must be set: {', '.join(missing)}. "
        "python -c 'import secrets; print(secrets.token_urlsafe(32))' prints a long random text."
    )
SECRET_KEY = SECRET_KEY or _local_secret_key()
ALLOWED_HOSTS = ALLOWED_HOSTS or ["localhost", "127.0.0.1", "[::1]"]

# Addresses or networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
TRUSTED_PROXIES = [ipaddress.ip_network(p) for p in env.list("TRUSTED_PROXIES", default=[])]

# Pages are served over TLS by a proxy in front: cookies are then marked secure and HTTP is redirected.
HTTPS = env.bool("HTTPS", default=PRODUCTION)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
# RustPBX follows no redirect; whether its questions are encrypted is for its operator to say.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^rustpbx/"]
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31536000 if HTTPS else 0)
# For the names under this one, too, and in the lists of browsers: both concern more than this server.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("HSTS_INCLUDE_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.bool("HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # they ask for these two
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
X_FRAME_OPTIONS = "DENY"

# --- Applications -----------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "whitenoise.runserver_nostatic",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "channels",
    "calls",
]

MIDDLEWARE = [
    "calls.gateway.proxies.TrustedProxiesMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # Lengthens each page at random, so that its length betrays nothing of what is in it (BREACH).
    "django.middleware.gzip.GZipMiddleware",
    "calls.pages.middleware.with_database",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "calls.pages.middleware.plain",
    "calls.pages.middleware.personal",
]

ROOT_URLCONF = "voiceagent.urls"
ASGI_APPLICATION = "voiceagent.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
# Wrong passwords from one address lock logging in from there for a while, on all nodes: the database counts.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = ["ip_address"]
AXES_CLIENT_IP_CALLABLE = "calls.gateway.proxies.login_address"
AXES_LOCKOUT_CALLABLE = "calls.pages.accounts.locked_out"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username"]
# The first superuser's password; empty makes a random one, printed once.
ADMIN_PASSWORD = env.str("ADMIN_PASSWORD", default="")

# --- Calls ------------------------------------------------------------------------------------------------

# A call is over when no audio has come for so many seconds: RustPBX does not say that its caller has hung up.
AUDIO_STOPPED_SECONDS = env.int("AUDIO_STOPPED_SECONDS", default=15)
# How many calls the process takes at once; 0: as many as were measured (calls/gateway/capacity.py).
MAX_CALLS = env.int("MAX_CALLS", default=0)
# Told to stop, the process lets running calls go on for so many seconds before it says goodbye.
DRAIN_SECONDS = env.int("DRAIN_SECONDS", default=600)

# --- Storage ----------------------------------------------------------------------------------------------

# postgres://user:password@host:5432/name; the default is SQLite in DATA_DIR.
DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'voiceagent.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # One writer at a time, readers never wait: write-ahead log, and a transaction asks for the write lock at
    # its start, where waiting for it works, instead of failing in its middle.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # A server that vanished without a word is noticed within 15 s, not after the system's quarter of an hour.
    within = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
    DATABASES["default"]["OPTIONS"] = (
        within | {"tcp_user_timeout": 15_000} | DATABASES["default"].get("OPTIONS", {})
    )
    # Such cursors do not survive pgbouncer in transaction mode.
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
# A page's connection ends with the page: what pages hold is bounded by how many are made at once. The threads
# of calls.database keep theirs.
DATABASES["default"]["CONN_MAX_AGE"] = 0
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# redis://host:6379/0 lets several nodes share live events; the default stays inside this process.
REDIS_URL = env.str("REDIS_URL", default="")
CHANNEL_LAYERS: dict[str, dict[str, object]] = {
    "default": (
        {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}

# --- Static files, language, time -------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = False
FORMAT_MODULE_PATH = "voiceagent.formats"
USE_TZ = True

# --- Providers --------------------------------------------------------------------------------------------

# Threads of the embedded speech-to-text, which all calls share (0: one for each core).
LOCAL_STT_THREADS = env.int("LOCAL_STT_THREADS", default=0)
# A GGUF file with a language model of one's own, in place of the embedded one.
LOCAL_LLM_PATH = env.str("LOCAL_LLM_PATH", default="")
# Replies the embedded language model writes at the same time, and its threads (0: the cores less one).
LOCAL_LLM_SLOTS = env.int("LOCAL_LLM_SLOTS", default=4)
LOCAL_LLM_THREADS = env.int("LOCAL_LLM_THREADS", default=0)

# With both keys set, profiles that leave the choice to us use the cloud providers.
CARTESIA_API_KEY = env.str("CARTESIA_API_KEY", default="")
OPENAI_API_KEY = env.str("OPENAI_API_KEY", default="")
CARTESIA_STT_URL = env.str("CARTESIA_STT_URL", default="wss://api.cartesia.ai")
CARTESIA_TTS_URL = env.str("CARTESIA_TTS_URL", default="wss://api.cartesia.ai/tts/websocket")
CARTESIA_VOICE = env.str("CARTESIA_VOICE", default="71a7ad14-091c-4e8e-a314-022ece01c121")
OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", default="https://api.openai.com/v1")
OPENAI_MODEL = env.str("OPENAI_MODEL", default="gpt-4o-mini")

# --- Logging ----------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "calls.redaction.RedactingFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "filters": {"refused": {"()": "voiceagent.logs.RefusedRequests"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["refused"]}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # These write lines for each request, and there is one for each reply of a model, or for each log-in.
    "loggers": {
        name: {"level": "WARNING"} for name in ("axes", "daphne", "django.channels.server", "httpx", "httpx2")
    },
}
