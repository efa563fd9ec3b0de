"""One sensor per use case asks its policy, records each decision, and starts the training run."""
