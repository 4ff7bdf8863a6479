"""How times and figures of calls are written in the pages' templates."""
