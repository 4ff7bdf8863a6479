"""WebSockets from upgrade to close: who may connect, how much a client may send, and the connection."""
