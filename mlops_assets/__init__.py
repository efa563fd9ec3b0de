"""The ML platform: use cases described in YAML become graphs of software-defined assets."""
