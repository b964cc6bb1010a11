"""Distractors: overlays that are added to frames and do not depend on the dots. One file for each process in time."""
