"""Generation tasks: admission, the executor, the stream, and the sweeper."""
