"""What a retraining policy would have done: models of all days trained once, policies replayed."""
