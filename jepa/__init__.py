"""JEPA world models and their rivals on a moving dot under distractor noise: train, judge, sweep."""

__version__ = "0.1.0"
