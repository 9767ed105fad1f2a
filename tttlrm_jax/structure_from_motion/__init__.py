"""Cameras of photographs and films that have none: what is given, kept, matched, mapped."""
