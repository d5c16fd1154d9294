"""DeepSpeed behind one door."""
