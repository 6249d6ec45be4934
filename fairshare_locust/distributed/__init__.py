"""One run over several load processes: a master that conducts, workers that make the load."""
