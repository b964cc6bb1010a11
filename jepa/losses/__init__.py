"""Loss terms, one file each: a pure function of tensors with its source, and a module with the term's coefficient."""
