"""Scenes made by numbers: objects, rooms, furniture, walks."""
