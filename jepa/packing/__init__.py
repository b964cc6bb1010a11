"""Trains many jobs of one structure as one program. Tensors have the axis ``J`` (jobs) in front."""
