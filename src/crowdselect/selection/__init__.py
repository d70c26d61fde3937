"""The product: from a pool and options to a selection, its folder, and the story of each row."""
