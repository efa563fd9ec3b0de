"""Endpoint targets: where a champion is put to answer, and how it is asked."""
