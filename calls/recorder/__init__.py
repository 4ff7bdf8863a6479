"""Stores calls while they go on, and tells pages what was stored."""
