"""Texts to vectors: by a model, or as somebody else computed them."""
