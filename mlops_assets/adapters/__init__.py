"""The outside world, one module per thing."""
