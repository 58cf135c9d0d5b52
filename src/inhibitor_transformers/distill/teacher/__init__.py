"""What a frozen teacher computes, and its cache on disk."""
