"""Which profile answers a call."""
