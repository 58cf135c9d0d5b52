"""Trainer for distillation: losses by name, exact resumes."""
