"""Tables and figures of finished and running runs, and reference lines for results. Reads only the runs' files."""
