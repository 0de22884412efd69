"""Formats of labelled images: how they are laid out, and what may be wrong with them."""
