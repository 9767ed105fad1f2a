"""Files of any room: names in order, text, JSON, pickles as data, directories that appear whole."""
