"""The stages from data to predictions as Dagster definitions, in the order of the data flow."""

import warnings

import dagster as dg

# Dagster is pinned, so what may change in its next release is no news to whoever runs this one.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
