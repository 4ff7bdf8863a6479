"""The server: Daphne, WebSocket frames, startup and shutdown."""
