"""Who draws: interchangeable backends of the rasterizer."""
