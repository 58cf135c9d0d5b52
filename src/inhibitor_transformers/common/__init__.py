"""What every part may use; it knows of none of them."""
