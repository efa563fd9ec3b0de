"""Finds what sources have and the lake has not, late and corrected days included."""
