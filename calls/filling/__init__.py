"""Made-up calls, to try the pages with and to measure them: what `manage.py fill` stores."""
