"""The product: from a pool and options to a selection, its folder, and the explanation of each row."""
