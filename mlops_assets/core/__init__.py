"""Pure decisions and data: no Dagster, no I/O, no clock."""
