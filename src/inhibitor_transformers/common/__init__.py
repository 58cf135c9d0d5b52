"""What every part may use: errors of settings, atomic files, output folders. Imports no other part, nor torch."""
