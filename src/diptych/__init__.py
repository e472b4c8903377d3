"""Diptych: pictures and sentences in one space."""
