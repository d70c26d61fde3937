"""Arrays in, arrays out: no files, no pools, no options."""
