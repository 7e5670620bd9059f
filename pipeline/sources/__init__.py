"""One module per raw data format: files as their owners publish them -> clips."""
