"""What the user has: files of any layout, read as one relation, and as a Pool."""
