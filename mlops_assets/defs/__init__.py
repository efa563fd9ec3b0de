"""Use cases, one folder each: the only place where a user of the platform works."""
