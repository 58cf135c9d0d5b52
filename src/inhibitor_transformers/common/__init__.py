"""What every part may use (output folders, atomic files, progress); it imports none of them."""
