"""What runs have left, read back: tables, figures, and the lines that results are compared with. Reads files only."""
