"""Composition: schema, search path, checks, messages, and the hash of a run."""
