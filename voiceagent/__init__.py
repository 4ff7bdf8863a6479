"""The voice agent behind RustPBX: project package."""

__version__ = "0.1.0"
