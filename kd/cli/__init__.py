"""The command line: one file per command, and the mechanism that all trainings share."""
