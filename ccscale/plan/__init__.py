"""What a run takes of each rank, told before it is started: memory, traffic, data; what does not fit or divide."""
