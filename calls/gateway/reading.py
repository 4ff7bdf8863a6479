"""When to read a client that streams steadily."""

GATHER = "voiceagent.gather"
"""The ASGI extension of a server that can let several messages of audio come before it reads them."""
