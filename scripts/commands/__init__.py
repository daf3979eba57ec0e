"""The command line, a file for each part of the train. Only options are here; the work is in the modules."""
