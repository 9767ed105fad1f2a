"""Forms in which cameras lie on disk: a file each, and one table of them (`table`)."""
