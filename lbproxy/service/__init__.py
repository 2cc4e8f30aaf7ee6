"""What starts, runs, is told and stops: everything that lives longer than a session."""
