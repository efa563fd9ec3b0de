"""Where steps run: the executor of staging and production, and what it leaves behind."""
