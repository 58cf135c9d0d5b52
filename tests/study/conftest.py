"""What studies share with the tests of distillation."""

from tests.distill.conftest import teacher_path

__all__ = ["teacher_path"]
