"""Where images come from: what a source is, and a module for each kind of them."""
