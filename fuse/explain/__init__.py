"""What a trained head's answer to one pair rests on: numbers of one forward pass, as a figure, a page and JSON."""
