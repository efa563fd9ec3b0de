"""The stages from data to predictions as Dagster definitions, in the order of the data flow."""
