"""The live viewer: Gaussians, cameras and points in a browser, while they are made and after."""
