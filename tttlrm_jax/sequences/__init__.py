"""Ordered frames: folders of pictures, RGB-D data sets, films."""
