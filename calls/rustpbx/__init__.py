"""All that knows RustPBX: its messages, and when to ping it."""
