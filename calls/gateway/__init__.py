"""A socket's life: who may connect, how much a client may send, and the connection from upgrade to close."""
