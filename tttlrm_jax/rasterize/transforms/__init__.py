"""Functions to functions: compiled as one, block by block, differentiated, over devices."""
