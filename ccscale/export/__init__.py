"""Export of networks: complete, with a model card, and in the formats of other tools."""
