"""The files of a run and of a sweep: their reader, their writer, and their locks."""
