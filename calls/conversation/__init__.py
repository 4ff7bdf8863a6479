"""The call: what it is configured as, what happens in it, and where that goes."""
