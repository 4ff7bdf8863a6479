"""The embedded providers: models that run in this process, without keys and without services."""
