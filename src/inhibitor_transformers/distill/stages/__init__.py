"""The stages of a distillation, one file each."""
