"""Distractors: what is added to the frames and says nothing of the dots. One file a process in time."""
