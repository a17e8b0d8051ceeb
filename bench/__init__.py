"""The laboratory: quality and speed of the pack, every figure by one command."""
