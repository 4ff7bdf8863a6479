"""The made-up calls that `manage.py fill` stores, for trying and measuring the pages."""
