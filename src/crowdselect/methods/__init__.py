"""Ways to score rows; each is a `Method`, CrowdSelect's own is in `crowdselect.selection.selection.methods`."""
