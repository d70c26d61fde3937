"""Choose fine-tuning data with a crowd of models."""

__version__ = "0.1.0"
