"""Networks handed on: whole, with a model card, and as what other tools read."""
