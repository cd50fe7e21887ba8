"""Files on disk: the run folder, records, checkpoints, whole-or-nothing files."""
