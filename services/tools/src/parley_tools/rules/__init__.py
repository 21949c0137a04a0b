"""Pure decisions of the kits: figures, scores, slots, passages. No I/O, no clock, no business's own words."""
