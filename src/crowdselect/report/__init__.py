"""The report of a finished run: its data, its charts, one self-contained page."""
