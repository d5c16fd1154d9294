"""DeepSpeed, behind one adapter."""
