"""A year replayed day by day, as if it were live."""
