"""A student and the teacher that it learns from, compared layer by layer; two kinds, by how the student was made."""

from .base import Matched, Outputs, Pairing, TeacherStates
from .converted import ConvertedPairing
from .encoder import EncoderPairing

__all__ = ["ConvertedPairing", "EncoderPairing", "Matched", "Outputs", "Pairing", "TeacherStates"]
