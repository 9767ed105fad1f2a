"""Posed photographs as people have them: camera files, pictures, choice of views."""
