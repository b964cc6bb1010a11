"""Data: the motion of dots, their images, distractors, normalisation, and streams of batches."""
