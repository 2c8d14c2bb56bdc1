"""Makes the files that people bring, of each kind that once went wrong."""
