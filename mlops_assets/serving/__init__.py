"""The model server: a process of its own that never imports Dagster."""
