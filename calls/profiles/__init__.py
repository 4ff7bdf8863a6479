"""Which profile answers a call, and the configuration that is in force for it."""
