"""Camera models, their coefficients in camera files, and the size of pictures that they are for."""
