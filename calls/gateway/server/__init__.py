"""The server under the sockets: Daphne, WebSocket frames, and what happens at its start and end."""
