"""The application: one package a room, the rooms on floors; imports run down only (tests/test_imports.py)."""
