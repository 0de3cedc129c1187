"""The command line. Trainings share train.py, tables share tables.py; each other command has its own file."""
