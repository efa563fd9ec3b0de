"""Checks that a team runs on its own use case."""
