"""Calls that a PBX asks us about: its answers, how they connect, how they are ended or handed on."""
