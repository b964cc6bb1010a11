"""Loss terms, one file each: a pure function of tensors with its source, and a thin module that holds its numbers."""
