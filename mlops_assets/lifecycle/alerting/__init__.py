"""Tells people what happened, once: reads events, decides, and hands over to the sinks."""
