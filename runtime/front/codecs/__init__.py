"""How bodies of each media type are read and written."""
