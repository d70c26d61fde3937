"""Vectors of texts: computed by an embedder, or read as given."""
