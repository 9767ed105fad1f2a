"""The front door: models, captures, reconstructions and streams as Python objects."""
