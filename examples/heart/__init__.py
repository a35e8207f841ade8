"""`make heart DATA=folder`: FLamby's table of Fed-Heart-Disease through a real federation."""
