"""How surfaces look: textures, pictures, materials, light."""
