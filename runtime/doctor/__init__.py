"""What may be wrong with a machine, its folders and its pexes before or while Pexdock runs on it. Changes nothing."""
