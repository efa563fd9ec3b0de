"""Rollouts: their evidence, the sensor that decides, what follows from the ledger, an asset."""
